"""Sending to a host by SFTP and as one stream: what is sent, what replaced, what is known of what broke."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from harness.lab import keys, pushing
from harness.lab.address import Address
from harness.lab.keys import Keys
from harness.lab.ssh import Ssh
from harness.model.errors import InfrastructureError
from tests.unit.ssh_server import listening

ONE, TWO = Path("harness/one.py"), Path("harness/two.py")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys.ensure(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def ssh(pair: Keys) -> Iterator[Ssh]:
    with listening(pair) as port:
        address = Address(host="127.0.0.1", port=port, key=pair.user, host_key=pair.host_public)
        with Ssh.connect(address) as ssh:
            yield ssh


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "here/harness").mkdir(parents=True)
    (tmp_path / "here" / ONE).write_text("1\n")
    (tmp_path / "here" / TWO).write_text("2\n")
    (tmp_path / "here" / TWO).chmod(0o755)
    return tmp_path / "here"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "there" / "code"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_what_changed_is_sent_whatever_its_size_and_time(ssh: Ssh, source: Path, target: Path) -> None:
    there = PurePosixPath(target)
    assert ssh.push(source, there, [ONE, TWO]) == 2
    assert ssh.push(source, there, [ONE, TWO]) == 0
    found = (source / ONE).stat()
    (source / ONE).write_text("3\n")
    os.utime(source / ONE, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert ssh.push(source, there, [ONE, TWO]) == 1
    assert (target / ONE).read_text() == "3\n"
    (source / TWO).touch()
    assert ssh.push(source, there, [ONE, TWO]) == 0
    assert os.access(target / TWO, os.X_OK)
    assert names(target) == {str(ONE), str(TWO), pushing.RECORD}


def test_what_was_sent_before_goes_unless_it_may_stay(ssh: Ssh, source: Path, target: Path) -> None:
    there = PurePosixPath(target)
    ssh.push(source, there, [ONE])
    assert ssh.push(source, there, [TWO], only=False) == 1
    assert names(target) == {str(ONE), str(TWO), pushing.RECORD}
    assert ssh.push(source, there, [TWO]) == 0
    assert names(target) == {str(TWO), pushing.RECORD}


def test_what_came_by_half_is_known_to_have(ssh: Ssh, source: Path, target: Path) -> None:
    there = PurePosixPath(target)
    ssh.push(source, there, [ONE, TWO])
    before = {name: (source / name).read_text() for name in (ONE, TWO)}
    (source / ONE).write_text("3\n")
    (source / TWO).write_text("4\n")
    (target / TWO).unlink()
    (target / TWO).mkdir()  # where no file can be put
    with pytest.raises(InfrastructureError, match=r"connection lost|sending"):
        ssh.push(source, there, [ONE, TWO])
    (target / TWO).rmdir()
    for name, text in before.items():
        (source / name).write_text(text)
    assert ssh.push(source, there, [ONE, TWO]) == 2
    assert {name: (target / name).read_text() for name in before} == before


def test_with_a_mark_a_folder_is_replaced_by_another(ssh: Ssh, source: Path, target: Path) -> None:
    (source / "mark").write_text("first")
    there = PurePosixPath(target)
    assert ssh.place(source, there, mark="mark")
    (source / ONE).write_text("the mark says it is the same\n")
    assert not ssh.place(source, there, mark="mark")
    (source / "mark").write_text("second")
    (source / TWO).unlink()
    assert ssh.place(source, there, mark="mark")
    assert names(target) == {"mark", str(ONE)}
    assert [path.name for path in target.parent.iterdir()] == ["code"]
