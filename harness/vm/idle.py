"""Waiting for a VM that has nothing more to do."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.model.deadline import Deadline, until_async
from harness.model.errors import DeadlinePassed

IDLE = 0.1
"""Of a CPU, at most: an idle guest of ours takes 0.01, one that works all there is."""

WAITS = 0.5
"""Of the time, at most, that it works or waits for a CPU to work on. One that works on a busy host has little
of a CPU, too, but waits for it all the rest; one at rest waits for a moment whenever it wakes up."""

_EVERY = 1.0
"""Seconds from one look to the next; the kernel counts CPU time in hundredths."""


async def idle(pid: int, deadline: Deadline, *, every: float = _EVERY) -> bool:
    """Wait until the process `pid`, a QEMU, uses at most `IDLE` of a CPU, from one look to the next, and not
    for want of one (`WAITS`).

    :return: False if it still used more at `deadline`, or has ended.
    """
    last = (time.monotonic(), 0.0, 0.0)  # so the first look says only how much it had used

    def rests() -> bool:
        nonlocal last
        before, last = last, (time.monotonic(), cpu_seconds(pid), delay_seconds(pid))
        passed, used, waited = (now - then for now, then in zip(last, before, strict=True))
        little = used <= IDLE * passed and used + waited <= WAITS * passed
        return passed >= every / 2 and little and not _is_ready(pid)

    with contextlib.suppress(DeadlinePassed, FileNotFoundError, ProcessLookupError):
        return await until_async(rests, deadline, f"process {pid} at rest", every=every)
    return False


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used, of their own and in the kernel (proc(5), stat).

    :raise OSError: there is no such process.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def delay_seconds(pid: int) -> float:
    """How long the threads that a process has now were ready to run and had no CPU, each until it last got
    one (schedstat's second figure, Documentation/scheduler/sched-stats.rst); 0 where that is not counted.

    :raise OSError: there is no such process.
    """
    return sum(int(text.split()[1]) for text in _of_threads(pid, "schedstat")) / 1e9


def _is_ready(pid: int) -> bool:
    """Whether a thread of the process runs or could; of one that gets no CPU at all nothing else tells."""
    return any(text.rpartition(")")[2].split()[0] == "R" for text in _of_threads(pid, "stat"))


def _of_threads(pid: int, name: str) -> Iterator[str]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            yield (task / name).read_text()
