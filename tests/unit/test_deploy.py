"""Which code is sent to a host, and when; the host is a folder here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from harness.lab import deploy, keys
from harness.lab.address import Address
from harness.lab.ssh import Done, Ssh
from harness.model.errors import InfrastructureError
from tests.unit.ssh_server import listening


class Here:
    """An `Ssh` to this machine. `pushes` counts; the first `breaks` of them break in the middle."""

    def __init__(self, breaks: int = 0) -> None:
        self.pushes = 0
        self._breaks = breaks

    def run_unchecked(self, argv: list[str], **_: Any) -> Done:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, argv: list[str], **_: Any) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def push(self, folder: Path, target: PurePosixPath, files: list[Path]) -> int:
        self.pushes += 1
        for name in files if self.pushes > self._breaks else files[:1]:
            Path(target, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, Path(target, name))
        if self.pushes <= self._breaks:
            raise InfrastructureError("connection lost")
        return len(files)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small one, and nothing remembered of another."""
    root = tmp_path / "checkout"
    (root / "harness").mkdir(parents=True)
    (root / "harness/one.py").write_text("1\n")
    (root / "harness/two.py").write_text("2\n")
    monkeypatch.setattr(deploy, "REPOSITORY", root)
    deploy.code_digest.cache_clear()
    return root


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    """A connection to a server on this machine."""
    pair = keys.ensure(tmp_path / "keys")
    with listening(pair) as port:
        address = Address(host="127.0.0.1", port=port, key=pair.user, host_key=pair.host_public)
        with Ssh.connect(address) as connection:
            yield connection


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    deploy.code_digest.cache_clear()


def send(here: Here, target: Path) -> None:
    deploy.code_digest.cache_clear()
    deploy.send_code(here, PurePosixPath(target))  # type: ignore[arg-type]


def test_code_is_sent_once_and_when_it_changed(checkout: Path, tmp_path: Path) -> None:
    here, target = Here(), tmp_path / "there"
    for _ in range(2):
        send(here, target)
        assert here.pushes == 1
    (checkout / "harness/one.py").touch()
    send(here, target)
    assert here.pushes == 1, "another time is no other code"
    (checkout / "harness/one.py").write_text("3\n")
    send(here, target)
    assert here.pushes == 2
    assert (target / "harness/one.py").read_text() == "3\n"


def test_what_came_by_half_is_sent_again(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    send(Here(), target)
    before = (checkout / "harness/one.py").read_text()
    (checkout / "harness/one.py").write_text("3\n")
    with pytest.raises(InfrastructureError):
        send(Here(breaks=1), target)
    (checkout / "harness/one.py").write_text(before)
    here = Here()
    send(here, target)
    assert here.pushes == 1, "what is there is no longer what it was"
    assert (target / "harness/one.py").read_text() == before


def test_other_code_has_a_folder_of_its_own_and_only_what_differs_is_sent(
    checkout: Path, tmp_path: Path, ssh: Ssh
) -> None:
    home = PurePosixPath(tmp_path / "home")

    def sent() -> Path:
        deploy.code_digest.cache_clear()
        folder = deploy.code_folder(ssh, home)
        deploy.send_code(ssh, folder)
        return Path(folder)

    first = sent()
    assert (first / "harness/one.py").read_text() == "1\n"
    (checkout / "harness/one.py").write_text("3\n")
    untouched = (first / "harness/two.py").stat().st_mtime_ns
    second = sent()
    assert second != first
    assert [(folder / "harness/one.py").read_text() for folder in (first, second)] == ["1\n", "3\n"]
    assert (second / "harness/two.py").stat().st_mtime_ns == untouched, "copied there"
    assert sent() == second
    assert sorted(path.name for path in Path(home).iterdir()) == sorted([first.name, second.name])


def test_what_no_run_has_used_for_long_is_removed_from_a_host(tmp_path: Path, ssh: Ssh) -> None:
    home = tmp_path / "a home"
    old = ("code-a", "code-b", "site-a", "site-b", "program-a", "lab", "images/pod/sent", "images/pod/own")
    for name in old:
        (home / name).mkdir(parents=True)
    for name in ("images/pod/sent.sent", "images/pod/new.sent"):
        (home / name).touch()
    for path in home.rglob("*"):
        if path.name != "new.sent":
            os.utime(path, (1, 1))
    used = [PurePosixPath(home / "code-b"), PurePosixPath(home / "site-b")]
    deploy.tidy(ssh, PurePosixPath(home), used)
    left = {str(path.relative_to(home)) for path in home.rglob("*")}
    assert left == {
        "code-b",
        "site-b",
        "lab",
        "images",
        "images/pod",
        "images/pod/own",
        "images/pod/new.sent",
    }


def with_work(work: Path, ssh: Ssh) -> deploy.Remote:
    """A host whose workers start in `work`."""
    return deploy.Remote(
        alias="host0",
        address=ssh.address,
        config=work,
        layout=msgspec.structs.replace(deploy.LAB, work=PurePosixPath(work)),
        ssh=ssh,
        accel=None,
    )


def test_a_program_is_sent_once_and_another_of_its_name_lies_elsewhere(tmp_path: Path, ssh: Ssh) -> None:
    work = tmp_path / "there" / "work"
    work.mkdir(parents=True)
    remote = with_work(work, ssh)
    program = tmp_path / "proxy"
    places = []
    for said in ("one", "one", "two"):
        program.write_text(f"#!/bin/sh\necho {said}\n")
        program.chmod(0o755)
        deploy.send_program(program, remote)
        place = (work / deploy.program_word(program)).resolve()
        assert subprocess.run([place], capture_output=True, text=True, check=True).stdout == f"{said}\n"
        places.append((place, place.stat().st_ino))
    assert places[0] == places[1], "nothing is sent again"
    assert places[0][0].exists()
    assert places[0] != places[2]


def test_a_program_that_was_used_lately_stays(tmp_path: Path, ssh: Ssh) -> None:
    work = tmp_path / "work"
    work.mkdir()
    remote = with_work(work, ssh)
    program = tmp_path / "proxy"
    program.touch(0o755)
    deploy.send_program(program, remote)
    folder = (work / deploy.program_word(program)).resolve().parent
    os.utime(folder, (1, 1))
    deploy.send_program(program, remote)
    deploy.tidy(ssh, PurePosixPath(tmp_path), [])
    assert folder.is_dir()
