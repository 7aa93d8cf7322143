"""Child processes that can't outlive their run, and a way to end them that tells how they ended.

A child is held three ways: the kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG,
prctl(2)), the run's keeper holds its pidfd, and its environment bears the run's mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from harness.host.runfolder import RunFolder
from harness.model.errors import HarnessError, HostUnfit, InfrastructureError

Output = Path | IO[bytes] | int
"""Where a child's output goes: a file to append to, an open file, or subprocess.PIPE, STDOUT, DEVNULL."""

_KILL_TAKES = 30.0
"""Seconds for a killed process to be gone; only one stuck in the kernel needs more."""


class Way(StrEnum):
    """What ended a process."""

    ENDED = "had ended before"
    QUIT = "quit when asked"
    TERMINATED = "ended after SIGTERM"
    KILLED = "killed by SIGKILL"


@dataclass(frozen=True)
class How:
    """How a process ended. `killed` must be reported: the process did not do what it was asked.

    `returncode` is negative for a signal's number. `seconds` is from the first request to the end.
    `note` says why asking failed, if it did.
    """

    way: Way
    returncode: int
    seconds: float
    note: str = ""

    @property
    def killed(self) -> bool:
        """Whether it took SIGKILL."""
        return self.way is Way.KILLED

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.way} within {self.seconds:.1f} s, exit code {self.returncode}{note}"


def spawn(
    argv: Sequence[str | Path],
    *,
    folder: RunFolder,
    stdout: Output = subprocess.DEVNULL,
    stderr: Output = subprocess.DEVNULL,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that ends with this run at the latest; it leads a session and a group of its own.

    Call it from the main thread, or one that lives as long as the child: the kernel kills the
    child when the thread that started it ends.

    :param env: the whole environment; by default this process's own. The run's mark is added.
    :raise InfrastructureError: when the program is not there.
    :raise HostUnfit: without `setpriv`.
    """
    with _opened(stdout) as out, _opened(stderr) as err:
        process = subprocess.Popen(
            bound(argv, env),
            stdin=stdin,
            stdout=out,
            stderr=err,
            pass_fds=tuple(pass_fds),
            env=_marked(env, folder),
            cwd=cwd,
            start_new_session=True,
        )
    _own(process, folder)
    return process


async def spawn_async(
    argv: Sequence[str | Path],
    *,
    folder: RunFolder,
    stdout: Output = subprocess.DEVNULL,
    stderr: Output = subprocess.DEVNULL,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> asyncio.subprocess.Process:
    """As `spawn`, for an event loop, which must run in the main thread."""
    program, *arguments = bound(argv, env)
    with _opened(stdout) as out, _opened(stderr) as err:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=stdin,
            stdout=out,
            stderr=err,
            pass_fds=tuple(pass_fds),
            env=_marked(env, folder),
            cwd=cwd,
            start_new_session=True,
        )
    _own(process, folder)
    return process


def stop(
    process: subprocess.Popen[bytes],
    quit: Callable[[], None] | None = None,
    *,
    terminate_after: float,
    kill_after: float,
) -> How:
    """End the process: `quit`, then SIGTERM to it, then SIGKILL to its group. Returns once it is reaped.

    :param quit: asks it to end by its own protocol; an error of it is noted in the result. It has
        `terminate_after` seconds to take effect. Without it SIGTERM comes at once.
    :param kill_after: seconds between SIGTERM and SIGKILL.
    :raise InfrastructureError: when it is still there 30 s after SIGKILL.
    """
    start = time.monotonic()
    if process.poll() is not None:
        return How(Way.ENDED, process.returncode, 0.0)
    note = ""
    with _pidfd(process.pid) as pidfd:
        for way, seconds in _ladder(quit is not None, terminate_after, kill_after):
            if way is Way.QUIT and quit is not None:
                note = _ask(quit)
            else:
                _signal(process.pid, way)
            if _ended(pidfd, 0.0 if note and way is Way.QUIT else seconds):
                return How(way, process.wait(), time.monotonic() - start, note)
    raise _stuck(process.pid)


async def stop_async(
    process: asyncio.subprocess.Process,
    quit: Callable[[], Awaitable[object]] | None = None,
    *,
    terminate_after: float,
    kill_after: float,
) -> How:
    """As `stop`, for a process of `spawn_async`. `quit` itself may take `terminate_after` seconds as well."""
    start = time.monotonic()
    if process.returncode is not None:
        return How(Way.ENDED, process.returncode, 0.0)
    note = ""
    for way, seconds in _ladder(quit is not None, terminate_after, kill_after):
        if way is Way.QUIT and quit is not None:
            note = await _ask_async(quit, seconds)
        else:
            _signal(process.pid, way)
        with contextlib.suppress(TimeoutError):
            code = await asyncio.wait_for(process.wait(), 0.01 if note and way is Way.QUIT else seconds)
            return How(way, code, time.monotonic() - start, note)
    raise _stuck(process.pid)


def _ladder(asked: bool, terminate_after: float, kill_after: float) -> list[tuple[Way, float]]:
    """The steps to take, each with the seconds it has to take effect."""
    steps = [(Way.TERMINATED, kill_after), (Way.KILLED, _KILL_TAKES)]
    return [(Way.QUIT, terminate_after), *steps] if asked else steps


def _ask(quit: Callable[[], None]) -> str:
    try:
        quit()
    except (OSError, HarnessError) as error:
        return f"asking failed: {error}"
    return ""


async def _ask_async(quit: Callable[[], Awaitable[object]], seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await quit()
    except TimeoutError:
        return f"asking took more than {seconds:.1f} s"
    except (OSError, EOFError, HarnessError) as error:
        return f"asking failed: {error}"
    return ""


def _signal(pid: int, way: Way) -> None:
    """SIGTERM to the process, or SIGKILL to its group. It has not been reaped, so the number is its own."""
    with contextlib.suppress(ProcessLookupError):
        if way is Way.TERMINATED:
            os.kill(pid, signal.SIGTERM)
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _stuck(pid: int) -> InfrastructureError:
    return InfrastructureError(
        f"process {pid} is still there {_KILL_TAKES:.0f} s after SIGKILL",
        hint=f"it's stuck in the kernel; see /proc/{pid}/stack and dmesg",
    )


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(output: Output) -> Iterator[IO[bytes] | int]:
    if isinstance(output, Path):
        with output.open("ab") as file:
            yield file
    else:
        yield output


def bound(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> list[str]:
    """`argv` by way of setpriv(1), which asks for SIGKILL at the parent's end and becomes the program.

    :raise HostUnfit: without `setpriv`.
    :raise InfrastructureError: when the program is not there.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise HostUnfit("setpriv is not installed", ability="setpriv", hint="sudo apt-get install util-linux")
    program = shutil.which(argv[0], path=None if env is None else env.get("PATH"))
    if program is None:
        raise InfrastructureError(f"no such program: {argv[0]}", detail=" ".join(map(str, argv)))
    return [setpriv, "--pdeathsig", "KILL", "--", program, *map(str, argv[1:])]


def _marked(env: Mapping[str, str] | None, folder: RunFolder) -> dict[str, str]:
    return {**(os.environ if env is None else env), **folder.mark}


def _own(process: subprocess.Popen[bytes] | asyncio.subprocess.Process, folder: RunFolder) -> None:
    """Tell the keeper; a child that can't be told of doesn't start."""
    try:
        folder.own(process.pid)
    except InfrastructureError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if isinstance(process, subprocess.Popen):
            process.wait()
        raise
