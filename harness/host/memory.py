"""What processes have in memory, and which processes a run has."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from harness.host import keeper
from harness.host.runfolder import RunFolder
from harness.model.density import Memory
from harness.model.errors import InfrastructureError

_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42  # linux/prctl.h

_SUMMED = {
    "Rss": "rss",
    "Pss": "pss",
    "Private_Clean": "uss",
    "Private_Dirty": "uss",
    "Private_Hugetlb": "uss",
}


def rollup(text: str, name: str = "smaps_rollup") -> Memory:
    """The contents of /proc/PID/smaps_rollup (Linux 4.14), whose kB are 1024 bytes.

    :param name: of the file, for what is raised.
    :raise InfrastructureError: a line that is needed is not there, or some of it is swapped out: then
        nothing here would be the whole.
    """
    said = {}
    for line in text.splitlines()[1:]:
        key, _, value = line.partition(":")
        amount, _, unit = value.strip().partition(" ")
        if unit == "kB" and amount.isdecimal():
            said[key] = int(amount) * 1024
    lacking = [key for key in ("Rss", "Pss", "Private_Clean", "Private_Dirty") if key not in said]
    if lacking:
        raise InfrastructureError(f"{name}: no line {lacking[0]} in kB", detail=text[:400])
    if said.get("Swap"):
        raise InfrastructureError(
            f"{name}: {said['Swap']} bytes are swapped out, so memory can't be measured",
            hint="swapoff, or more memory",
        )
    sums = dict.fromkeys(("rss", "pss", "uss"), 0)
    for key, of in _SUMMED.items():
        sums[of] += said.get(key, 0)
    return Memory(**sums)


def of_process(pid: int) -> Memory:
    """What a process has in memory now.

    :raise InfrastructureError: it can't be read: the process is gone, or another user's.
    """
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        return rollup(path.read_text(), str(path))
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from error


def processes(folder: RunFolder) -> frozenset[int]:
    """The processes that bear the run's mark: whatever it started, and their children. No kernel threads."""
    found = keeper.marked(folder.path)
    for pidfd in found:
        os.close(pidfd)
    return frozenset(found.values())


@contextlib.contextmanager
def without_huge_pages() -> Iterator[None]:
    """Processes started meanwhile have pages of 4 KiB only, and so do theirs (PR_SET_THP_DISABLE, prctl(2)).

    Where the host gives huge pages to everybody, a small process has one of 2 MiB, and the kernel's
    khugepaged makes more of them at any time, of a paused VM's memory, too.

    :raise InfrastructureError: the kernel refuses.
    """
    before = _prctl(_PR_GET_THP_DISABLE, 0)
    _prctl(_PR_SET_THP_DISABLE, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_THP_DISABLE, before)


def _prctl(option: int, value: int) -> int:
    found = int(ctypes.CDLL(None, use_errno=True).prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))
    if found < 0:
        raise InfrastructureError(f"prctl({option}, {value}): {os.strerror(ctypes.get_errno())}")
    return found
