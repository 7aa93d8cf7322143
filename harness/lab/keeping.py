"""Starting and ending the holder of a kept lab (see `harness.lab.holder`)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from harness.host import keeper
from harness.host.speed import slowness
from harness.lab.deploy import REPOSITORY
from harness.lab.holder import READY, Failure
from harness.lab.kept import Keep, Kept
from harness.lab.state import State
from harness.model.deadline import Deadline, until
from harness.model.errors import HarnessError, HostUnfit, InfrastructureError

_END_SECONDS = 60.0
"""For an orderly end, which takes one; multiplied by the host's slowness."""


def start(keep: Keep, lock: IO[str], program: Sequence[str]) -> Kept:
    """Start a holder and wait until its lab is ready.

    Ctrl-C, or this process's end in whatever way, ends a lab that is not ready yet.

    :param lock: from `Keep.changing`.
    :param program: the holder's command line but for its last three arguments; see `command`.
    :raise HostUnfit: as `lab.up`.
    :raise InfrastructureError: the lab does not come up; says why.
    """
    keep.clean()
    ours, theirs = socket.socketpair()
    with ours:
        try:
            _launch(keep, lock, program, theirs)
            said = b"".join(iter(lambda: ours.recv(65536), b""))
        except BaseException:
            ours.shutdown(socket.SHUT_WR)
            while ours.recv(65536):
                pass
            kept = keep.find()
            if kept is not None:
                end(keep, kept)
            raise
    kept = keep.find()
    if said == READY and kept is not None:
        return kept
    raise _failure(said, keep)


def _launch(keep: Keep, lock: IO[str], program: Sequence[str], theirs: socket.socket) -> None:
    """What the launcher forks is nobody's child, in a session that no terminal has, and in no run."""
    with theirs, keep.log.open("wb") as log:
        fds = (theirs.fileno(), lock.fileno())
        subprocess.run(
            [*program, *map(str, fds), str(keep.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if name != keeper.MARK},
            start_new_session=True,
            check=False,
        )


def command(memory_mib: int, saved: Path | None, state: State, kernel: str) -> list[str]:
    """The command line of a real holder, for `start`; of one that restores the lab `saved`."""
    words = [str(memory_mib), str(saved or ""), state.value, kernel]
    return [sys.executable, "-m", "harness.lab.holder", *words]


def end(keep: Keep, kept: Kept) -> str:
    """End a lab that `Keep.find` found; returns when its holder, its QEMU and its run folder are gone.

    :return: "" for an orderly end, else what had to be done.
    :raise InfrastructureError: something of it is still there; says what.
    """
    note = ""
    with _pidfd(kept.holder) as holder, _pidfd(kept.lab.pid) as qemu:
        # still found: the numbers mean what they meant when the state was written
        if holder is not None and keep.find() == kept:
            signal.pidfd_send_signal(holder, signal.SIGTERM)
            if not _ended(holder, _END_SECONDS * slowness()):
                note = f"its holder (process {kept.holder}) did not obey SIGTERM and was killed"
                signal.pidfd_send_signal(holder, signal.SIGKILL)
        # after a kill this is the keeper's work
        patience = keeper.PATIENCE + 10
        until(
            lambda: not kept.run_folder.exists() and (qemu is None or _ended(qemu, 0)),
            Deadline(patience),
            f"the end of the lab (QEMU is process {kept.lab.pid}, its folder {kept.run_folder})",
        )
    return note


def _failure(said: bytes, keep: Keep) -> HarnessError:
    try:
        failure = msgspec.json.decode(said, type=Failure)
    except msgspec.MsgspecError:
        lines = keep.log.read_text(errors="replace").splitlines()[-20:]
        return InfrastructureError(
            "the lab's holder ended before the lab was ready",
            detail="\n".join(lines),
            hint=f"see {keep.root}",
        )
    if failure.unfit:
        return HostUnfit(failure.summary, ability=failure.unfit, hint=failure.hint, detail=failure.detail)
    return InfrastructureError(
        failure.summary, detail=failure.detail, hint=failure.hint or f"logs: {keep.logs}"
    )


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """A process file descriptor; None if there is no such process."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
