from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from harness.host.process import How, Way, spawn, spawn_async, stop, stop_async
from harness.host.runfolder import RunFolder
from harness.model.errors import HostUnfit, InfrastructureError
from tests.unit.hangs import HANGS

STUBBORN = ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done"]


def stubborn(folder: RunFolder) -> tuple[subprocess.Popen[bytes], int]:
    """A process that ignores SIGTERM, and the pid of its child; returns once it ignores."""
    process = spawn(STUBBORN, folder=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        return process, int(process.stdout.readline())


def test_a_child_has_its_files_environment_and_fds(folder: RunFolder, tmp_path: Path) -> None:
    read, write = os.pipe()
    script = f"echo out; echo err >&2; echo $VSOCK_HARNESS_RUN_FOLDER $A >/proc/self/fd/{write}"
    process = spawn(
        ["sh", "-c", script],
        folder=folder,
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        pass_fds=[write],
        env={"A": "b", "PATH": os.environ["PATH"]},
    )
    process.wait(timeout=HANGS)
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == f"{folder.path} b\n"
    assert (tmp_path / "out").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def test_the_kernel_kills_the_child_of_a_dead_parent(folder: RunFolder) -> None:
    process = spawn(["sleep", "1000"], folder=folder)
    assert os.getpgid(process.pid) == process.pid
    # prctl(2): the setting of another process is not to be read, so ask a child about its own.
    script = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    asked = spawn(["python3", "-c", script], folder=folder, stdout=subprocess.PIPE)
    assert int(asked.communicate(timeout=HANGS)[0]) == signal.SIGKILL
    assert stop(process, terminate_after=0, kill_after=5).way is Way.TERMINATED


def test_no_such_program(folder: RunFolder) -> None:
    with pytest.raises(InfrastructureError, match="no such program: /no/such"):
        spawn(["/no/such"], folder=folder)


def test_no_setpriv(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostUnfit, match="setpriv") as caught:
        spawn(["/bin/true"], folder=folder)
    assert caught.value.ability == "setpriv"


def test_stop_reports_sigterm(folder: RunFolder) -> None:
    how = stop(spawn(["sleep", "1000"], folder=folder), terminate_after=0, kill_after=10)
    assert (how.way, how.returncode, how.killed) == (Way.TERMINATED, -signal.SIGTERM, False)


def test_stop_asks_first(folder: RunFolder) -> None:
    process = spawn(["cat"], folder=folder, stdin=subprocess.PIPE)
    assert process.stdin is not None
    how = stop(process, process.stdin.close, terminate_after=10, kill_after=10)
    assert (how.way, how.returncode) == (Way.QUIT, 0)


def test_stop_kills_the_group_and_says_so(folder: RunFolder) -> None:
    process, child = stubborn(folder)
    gone = os.pidfd_open(child)
    how = stop(process, lambda: None, terminate_after=0.1, kill_after=0.1)
    assert (how.way, how.returncode, how.killed) == (Way.KILLED, -signal.SIGKILL, True)
    assert how.seconds >= 0.2
    assert "killed by SIGKILL" in str(how)
    try:
        assert select.select([gone], [], [], 5)[0]
    finally:
        os.close(gone)


def test_a_failed_request_is_noted_and_sigterm_follows_at_once(folder: RunFolder) -> None:
    def broken() -> None:
        raise ConnectionResetError("monitor gone")

    how = stop(spawn(["sleep", "1000"], folder=folder), broken, terminate_after=60, kill_after=10)
    assert how.way is Way.TERMINATED
    assert how.seconds < 30
    assert "monitor gone" in str(how)


def test_stopping_what_has_ended(folder: RunFolder) -> None:
    process = spawn(["sh", "-c", "exit 3"], folder=folder)
    process.wait(timeout=HANGS)
    assert stop(process, terminate_after=1, kill_after=1) == How(Way.ENDED, 3, 0.0)


def test_async_twin(folder: RunFolder) -> None:
    async def scenario() -> list[How]:
        stdin = subprocess.PIPE
        first = await spawn_async(["cat"], folder=folder, stdin=stdin)

        async def close() -> None:
            assert first.stdin is not None
            first.stdin.close()

        hows = [await stop_async(first, close, terminate_after=10, kill_after=10)]
        second = await spawn_async(["sleep", "1000"], folder=folder)

        async def hang() -> None:
            await asyncio.Event().wait()

        hows.append(await stop_async(second, hang, terminate_after=0.05, kill_after=10))
        third = await spawn_async(STUBBORN, folder=folder, stdout=subprocess.PIPE)
        assert third.stdout is not None
        await third.stdout.readline()
        hows.append(await stop_async(third, terminate_after=10, kill_after=0.05))
        hows.append(await stop_async(third, terminate_after=10, kill_after=0.05))
        return hows

    hows = asyncio.run(scenario())
    assert [how.way for how in hows] == [Way.QUIT, Way.TERMINATED, Way.KILLED, Way.ENDED]
    assert "asking took more than" in hows[1].note
