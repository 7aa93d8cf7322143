"""Who may run VMs on this host now: so many at once as its cores and memory carry, the others wait in line.

A place is the flock(2) of a file, so it is free again when its holder ends in whatever way. All runs of
this user on the host share the places.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.host.flocks import taken
from harness.host.paths import cache_root
from harness.model.deadline import Deadline, until

PER_CORE = 2
"""Tests that run VMs at once for each core: mostly one of them waits for something."""

TEST_MIB = 384
"""What a test with a VM takes: QEMU, a pod's own pages, its clients."""


def free_mib() -> int:
    """Memory that can be had without swapping, in MiB (MemAvailable of proc_meminfo(5))."""
    return available_mib(Path("/proc/meminfo").read_text())


def available_mib(meminfo: str) -> int:
    """MemAvailable, in MiB, of what /proc/meminfo says."""
    fields = dict(line.split(":") for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) // 1024


def places() -> int:
    """How many tests may have VMs at once here; at least one."""
    return carried(os.cpu_count() or 1, free_mib())


def carried(cores: int, free: int) -> int:
    """How many tests with VMs so many cores and MiB of free memory carry at once; at least one."""
    return max(1, min(PER_CORE * cores, free // TEST_MIB))


@contextlib.contextmanager
def admitted(most: int, folder: Path | None = None) -> Iterator[float]:
    """Hold one of `most` places for the time of the `with`, once one is free. Yields the seconds waited.

    :param folder: of the places' files, made if missing; by default in this user's cache. Where nothing can
        be written there, nobody waits: a read-only cache is no reason to run nothing.
    """
    folder = folder or cache_root() / "places"
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "line").touch()
        except OSError:
            yield 0.0
            return
        # one at a time looks for a place, so those who wait disturb nobody
        turn = stack.enter_context((folder / "line").open("a"))
        fcntl.flock(turn, fcntl.LOCK_EX)
        files = [stack.enter_context((folder / str(number)).open("a")) for number in range(most)]
        until(lambda: any(map(taken, files)), Deadline(None), f"one of {most} places for VMs on this host")
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield time.monotonic() - begun
