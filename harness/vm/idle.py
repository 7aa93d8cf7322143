"""Waiting for a VM that has nothing more to do."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from harness.model.deadline import Deadline, until_async
from harness.model.errors import DeadlinePassed

IDLE = 0.1
"""Of a CPU, at most: an idle guest of ours takes 0.01, one that works all there is."""

_EVERY = 1.0
"""Seconds from one look to the next; the kernel counts CPU time in hundredths."""


async def idle(pid: int, deadline: Deadline, *, every: float = _EVERY) -> bool:
    """Wait until the process `pid`, a QEMU, uses at most `IDLE` of a CPU, from one look to the next.

    :return: False if it still used more at `deadline`, or has ended.
    """
    last = (time.monotonic(), 0.0)  # so the first look says only how much it had used

    def rests() -> bool:
        nonlocal last
        before, last = last, (time.monotonic(), cpu_seconds(pid))
        passed = last[0] - before[0]
        return passed >= every / 2 and last[1] - before[1] <= IDLE * passed

    with contextlib.suppress(DeadlinePassed, FileNotFoundError, ProcessLookupError):
        return await until_async(rests, deadline, f"process {pid} at rest", every=every)
    return False


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used, of their own and in the kernel (proc(5), stat).

    :raise OSError: there is no such process.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
