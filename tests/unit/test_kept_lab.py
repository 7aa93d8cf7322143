"""A kept lab around a holder whose lab is a sleeping process: whatever ends, nothing is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.image.store import Image
from harness.lab import keeping
from harness.lab.deploy import REPOSITORY
from harness.lab.kept import Keep, Kept
from harness.lab.lab import LabImages
from harness.model.deadline import Deadline, until
from harness.model.errors import HostUnfit, InfrastructureError
from tests.unit.fake_holder import IMAGES
from tests.unit.hangs import HANGS
from tests.unit.images import image
from tests.unit.processes import alive


def program(mode: str = "good", port: int = 1) -> list[str]:
    return [sys.executable, "-m", "tests.unit.fake_holder", mode, str(port)]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep(tmp_path / "lab")


@contextlib.contextmanager
def up(keep: Keep, mode: str = "good", port: int = 1) -> Iterator[Kept]:
    with keep.changing() as lock:
        kept = keeping.start(keep, lock, program(mode, port))
    try:
        yield kept
    finally:
        if keep.find() is not None:
            keeping.end(keep, kept)


def nothing_left(keep: Keep, seconds: float = 10) -> bool:
    """Whether the fake lab's process and its run folder are gone, or are so in time."""
    pid, folder = (keep.root / "fake").read_text().split()
    until(lambda: not alive(int(pid)) and not Path(folder).exists(), Deadline(seconds), "its end")
    return keep.find() is None


def images(**changed: str) -> LabImages:
    wanted = {**IMAGES, **changed}
    qemu, lab, pod = (image(Path("nowhere"), name, identity=wanted[name]) for name in ("qemu", "lab", "pod"))
    return LabImages(qemu=qemu, lab=lab, guests=(pod,))


def test_lab_outlives_its_starter_and_ends_when_told(keep: Keep) -> None:
    with up(keep) as kept:
        assert keep.find() == kept
        assert kept.images == IMAGES
        assert kept.memory_mib == 2048
        assert os.getsid(kept.holder) not in (os.getsid(0), kept.holder)
        assert Path(f"/proc/{kept.holder}/fd/0").readlink() == Path("/dev/null")
        until(lambda: not keep.is_changing(), Deadline(HANGS), "the holder's end of changing")
        assert "HostName 127.0.0.1" in keep.ssh_config.read_text()
        assert keeping.end(keep, kept) == ""
        assert nothing_left(keep, 0)
        assert not alive(kept.holder)
    with keep.changing():
        keep.clean()
    assert sorted(path.name for path in keep.root.iterdir()) == ["changing.lock", "fake"]


def test_kill_9_of_the_holder_ends_the_lab(keep: Keep) -> None:
    with up(keep) as kept:
        os.kill(kept.holder, signal.SIGKILL)
        assert nothing_left(keep)
        with up(keep) as second:
            assert second.holder != kept.holder


def test_end_of_the_lab_ends_the_holder(keep: Keep) -> None:
    with up(keep) as kept:
        os.kill(kept.lab.pid, signal.SIGKILL)
        until(lambda: not alive(kept.holder), Deadline(HANGS), "the holder's end")
        assert nothing_left(keep)
        assert f"(process {kept.lab.pid}) has ended" in keep.log.read_text()


def test_holder_that_does_not_obey_is_killed_and_named(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_END_SECONDS", 0.1)
    monkeypatch.setattr(keeping, "slowness", lambda: 1.0)
    with up(keep, "stubborn") as kept:
        assert str(kept.holder) in keeping.end(keep, kept)
        assert nothing_left(keep, 0)


def test_lab_that_does_not_come_up(keep: Keep) -> None:
    with pytest.raises(HostUnfit, match="no room") as unfit, up(keep, "unfit"):
        pass
    assert (unfit.value.ability, unfit.value.hint) == ("memory", "buy some")
    with pytest.raises(InfrastructureError, match="no login") as silent, up(keep, "silent"):
        pass
    assert silent.value.detail == "the console's end"
    assert nothing_left(keep)
    assert str(keep.logs) in silent.value.hint
    assert (keep.logs / "console.log").exists()


def test_holder_that_crashes_shows_its_log(keep: Keep) -> None:
    with pytest.raises(InfrastructureError, match="before the lab was ready") as crash, up(keep, "crash"):
        pass
    assert "ZeroDivisionError: a bug" in crash.value.detail
    assert nothing_left(keep)


def test_interrupted_boot_leaves_nothing(keep: Keep) -> None:
    def interrupt() -> None:
        try:
            until((keep.root / "fake").exists, Deadline(HANGS), "the boot")
        finally:  # else the main thread would wait for ever
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), up(keep, "slow"):
        pass
    thread.join()
    assert nothing_left(keep, 0)


def test_kill_9_of_the_starter_ends_a_boot(keep: Keep) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.lab import keeping; from harness.lab.kept import Keep\n"
        "keep = Keep(Path(sys.argv[1]))\n"
        "with keep.changing() as lock: keeping.start(keep, lock, sys.argv[2:])\n"
    )
    argv = [sys.executable, "-c", code, str(keep.root), *program("slow")]
    with subprocess.Popen(argv, cwd=REPOSITORY) as starter:
        until((keep.root / "fake").exists, Deadline(HANGS), "the boot")
        assert keep.is_changing()
        starter.kill()
    assert nothing_left(keep)
    with keep.changing():  # the holder had the lock as long as it lived
        assert keep.find() is None


def test_state_that_nobody_holds_is_no_lab(keep: Keep) -> None:
    with up(keep) as kept:
        state = (keep.root / "state.json").read_bytes()
        keeping.end(keep, kept)
    (keep.root / "state.json").write_bytes(state)
    assert keep.find() is None


def test_state_of_another_version_names_the_holder(keep: Keep) -> None:
    keep.make()
    with (keep.root / "state.json").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write('{"holder": 4711}')
        file.flush()
        with pytest.raises(InfrastructureError, match="another version") as error:
            keep.find()
    assert error.value.hint == "end it: kill 4711"


def test_one_run_at_a_time_borrows_it(keep: Keep, ssh_server: int) -> None:
    with keep.borrowed(images()) as none:
        assert none.lab is None
        assert "no lab is kept" in none.reason
    with up(keep, port=ssh_server) as kept:
        with keep.borrowed(images()) as first, keep.borrowed(images()) as second:
            assert first.lab == kept.lab
            assert second.lab is None
            assert "another run" in second.reason
            assert keep.user() == os.getpid()
        assert keep.user() is None
        with keep.borrowed(images()) as again:
            assert again.lab == kept.lab
        for changed in IMAGES:
            with keep.borrowed(images(**{changed: "other"})) as other:
                assert other.lab is None
                assert "older images" in other.reason
        ours = images()
        manifest = msgspec.structs.replace(ours.lab.manifest, built="2999-01-01T00:00:00+00:00")
        with keep.borrowed(msgspec.structs.replace(ours, lab=Image(ours.lab.path, manifest))) as other:
            assert other.lab is None, "built again since"


def test_one_that_is_being_ended_is_not_lent_and_one_that_is_lent_is_told_of(
    keep: Keep, ssh_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with up(keep, port=ssh_server) as kept:
        with keep.unlent() as user, keep.borrowed(images()) as loan:
            assert user is None
            assert loan.lab is None
            assert keep.user() is None
        with keep.borrowed(images()) as loan, keep.unlent() as user:
            assert loan.lab == kept.lab
            assert user == os.getpid()
        # found, it is ended before it is borrowed
        monkeypatch.setattr(Kept, "answers", lambda self: bool(keeping.end(keep, self)) or True)
        with keep.borrowed(images()) as loan:
            assert loan.lab is None
            assert "has just ended" in loan.reason


def test_lab_in_a_state_is_not_lent(keep: Keep, ssh_server: int) -> None:
    with up(keep, "state", ssh_server), keep.borrowed(images()) as loan:
        assert loan.lab is None
        assert "state vmci, kernel trixie" in loan.reason


def test_lab_that_does_not_answer_is_not_lent(keep: Keep) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with up(keep, port=port) as kept:
        assert not kept.answers()
        with keep.borrowed(images()) as loan:
            assert loan.lab is None
            assert "does not answer" in loan.reason
