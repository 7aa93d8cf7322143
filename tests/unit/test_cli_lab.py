"""`vsock-harness lab` around a holder whose lab is a sleeping process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import lab as cli
from harness.cli import labstatus
from harness.cli.main import main
from harness.image.store import Image, Store
from harness.lab import keeping
from harness.lab.kept import Keep
from harness.lab.lab import GUESTS
from harness.lab.state import OWN_KERNEL
from harness.model.deadline import Deadline, until
from tests.unit.hangs import HANGS
from tests.unit.images import image


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Keep()


@pytest.fixture
def asked(keep: Keep, ssh_server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The memory and images that real holders would have been started with; `lab up` boots sleepers."""
    seen: list[str] = []

    def command(memory_mib: int, saved: Path | None, state: str, kernel: str) -> list[str]:
        assert saved is None
        seen.append(str(memory_mib))
        seen.extend([] if (state, kernel) == ("loaded", OWN_KERNEL) else [state, kernel])
        return [sys.executable, "-m", "tests.unit.fake_holder", "good", str(ssh_server)]

    def get(self: Store, name: str, progress: object) -> Image:
        seen.append(name)
        return image(keep.root, name, kind="lab", identity="x")

    monkeypatch.setattr(keeping, "command", command)
    monkeypatch.setattr(Store, "get", get)
    monkeypatch.setattr(cli, "saved_lab", lambda images, memory: contextlib.nullcontext())
    monkeypatch.setattr(labstatus, "_pods", lambda kept: 2)
    yield seen
    kept = keep.find()
    if kept is not None:
        keeping.end(keep, kept)


def test_up_status_down(keep: Keep, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == cli.DOWN
    assert capsys.readouterr().out == "down\n"
    assert not keep.root.exists()

    assert main(["lab", "up", "--memory", "2048"]) == 0
    assert asked == ["qemu", "lab", *GUESTS, "2048"]
    kept = keep.find()
    assert kept is not None
    out, err = capsys.readouterr()
    assert f"the lab is up: ssh://root@127.0.0.1:{kept.lab.address.port}, booted in 2 s" in out
    assert "lab: booting, 2048 MiB: done in" in err

    assert main(["lab", "status"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["state"] == "up"
    assert lines["memory"].startswith("2048 MiB, ")
    assert lines["pods"] == "2 running"
    assert lines["images"].startswith("older than today's recipes")

    assert main(["lab", "down"]) == 0
    assert "the lab is down" in capsys.readouterr().out
    assert not kept.run_folder.exists()
    assert main(["lab", "down"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no lab was up"
    assert main(["lab", "status", "--json"]) == cli.DOWN
    assert json.loads(capsys.readouterr().out) == {"state": "down"}


def test_second_up_keeps_the_first_unless_told(
    keep: Keep, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "up"]) == 0
    first = keep.find()
    assert first is not None
    assert main(["lab", "up"]) == 0
    assert "a lab is up already" in capsys.readouterr().out
    assert main(["lab", "up", "--memory", "2048"]) == 0
    assert main(["lab", "up", "--memory", "3000"]) == 2
    assert "hint: vsock-harness lab up --fresh --memory 3000" in capsys.readouterr().err
    assert keep.find() == first
    assert main(["lab", "up", "--fresh"]) == 0
    second = keep.find()
    assert second is not None
    assert second.holder != first.holder
    assert not first.run_folder.exists()


def test_a_lab_in_a_state_with_another_kernel(
    keep: Keep, asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "saved_lab", lambda images, memory: pytest.fail("it is not to be restored"))
    assert main(["lab", "up", "--state", "vmci", "--kernel", "bookworm"]) == 0
    assert asked == ["qemu", "lab", *GUESTS, "kernel-bookworm", "4096", "vmci", "bookworm"]
    assert main(["lab", "up", "--state", "absent"]) == 2
    assert "hint: vsock-harness lab up --fresh --state absent" in capsys.readouterr().err
    assert main(["lab", "up", "--kernel", "bullseye"]) == 2
    assert "hint: vsock-harness lab up --fresh --kernel bullseye" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "word"), [("--state", "not-loadde"), ("--kernel", "bookwrom")])
def test_an_unknown_state_or_kernel_is_a_usage_error(
    keep: Keep, option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "up", option, word]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_status_as_json(keep: Keep, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["lab", "up"])
    kept = keep.find()
    assert kept is not None
    capsys.readouterr()
    assert main(["lab", "status", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["state"] == "up"
    assert data["qemu_pid"] == kept.lab.pid
    assert data["port"] == kept.lab.address.port
    assert data["used_by"] is None
    assert data["images"] == kept.images


def test_lab_that_does_not_answer_is_told_from_one_that_is_up(
    keep: Keep, asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lab", "up"])
    monkeypatch.setattr("harness.lab.kept.Kept.answers", lambda self: False)
    capsys.readouterr()
    assert main(["lab", "status"]) == 1
    assert "up, but it does not answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("victim", "said"), [("qemu", "QEMU (process"), ("holder", "its holder was killed; logs: ")]
)
def test_status_says_how_the_last_one_ended(
    victim: str, said: str, keep: Keep, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lab", "up"])
    kept = keep.find()
    assert kept is not None
    os.kill(kept.lab.pid if victim == "qemu" else kept.holder, signal.SIGKILL)
    until(lambda: not kept.run_folder.exists(), Deadline(HANGS), "the end")
    capsys.readouterr()
    assert main(["lab", "status"]) == cli.DOWN
    assert said in capsys.readouterr().out


def test_lab_in_use_is_not_ended_unless_forced(
    keep: Keep, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lab", "up"])
    with keep._used() as lock:
        assert lock is not None
        lock.write("4711")
        lock.flush()
        for words in (["down"], ["up", "--fresh"]):
            assert main(["lab", *words]) == 2
            assert "a run (process 4711) uses the lab" in capsys.readouterr().err
        assert keep.find() is not None
        assert main(["lab", "down", "--force"]) == 0
        assert keep.find() is None


def test_shell_becomes_ssh(
    keep: Keep, asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "shell"]) == 2
    assert "no lab is up\nhint: vsock-harness lab up" in capsys.readouterr().err
    main(["lab", "up"])
    seen: list[list[str]] = []

    def become(program: str, argv: list[str]) -> None:
        seen.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", become)
    for words in ([], ["--", "ls", "-l", "a b"], ["--", "dmesg | tail"]):
        main(["lab", "shell", *words])
    front = ["ssh", "-F", str(keep.ssh_config), "lab"]
    assert seen == [front, [*front, "ls -l 'a b'"], [*front, "dmesg | tail"]]
    assert cli.ssh_command(keep, [], terminal=True)[3] == "-t"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["lab", "shell"]) == 2
    assert "openssh-client" in capsys.readouterr().err


def test_others_take_no_command(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("up", "status", "down"):
        assert main(["lab", action, "--", "ls"]) == 2
        assert "only `lab shell` takes a command" in capsys.readouterr().err


def test_cache_that_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["lab", "up"]) == 1
    assert "cannot make the cache folder" in capsys.readouterr().err
    assert main(["lab", "status"]) == cli.DOWN
