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
from typing import IO

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
def admitted(most: int | None = None, folder: Path | None = None) -> Iterator[float]:
    """Hold a place for the time of the `with`, once one is free. Yields the seconds waited.

    :param most: how many places there are; None for what this host carries, asked again at each look.
    :param folder: of the places' files, made if missing; by default in this user's cache. Where nothing can
        be written there, nobody waits: a read-only cache is no reason to run nothing.
    """
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        places = _opened(stack, most, folder)
        if places is None:
            yield 0.0
            return
        # one at a time looks for a place, so those who wait disturb nobody
        fcntl.flock(places.line, fcntl.LOCK_EX)
        until(places.take, Deadline(None), "a place for VMs on this host")
        places.line.close()
        yield time.monotonic() - begun


@contextlib.contextmanager
def another(most: int | None = None, folder: Path | None = None) -> Iterator[bool]:
    """Hold a further place for the time of the `with`, if one is free right now; yields whether.

    Who holds one does not wait for another: two that do would wait for ever.
    """
    with contextlib.ExitStack() as stack:
        places = _opened(stack, most, folder)
        held = places is not None and taken(places.line) and places.take()
        if not held:
            stack.close()
        elif places is not None:
            places.line.close()
        yield held


def _opened(stack: contextlib.ExitStack, most: int | None, folder: Path | None) -> _Places | None:
    """The places; None where nothing can be written. `stack` closes their files, and so leaves them."""
    folder = folder or cache_root() / "places"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        line = stack.enter_context((folder / "line").open("a+"))
    except OSError:
        return None
    count = most or PER_CORE * (os.cpu_count() or 1)
    return _Places(
        line, [stack.enter_context((folder / str(number)).open("a")) for number in range(count)], most
    )


class _Places:
    """The files of the places, and that of the line before them.

    The latter says how much memory was free when nobody had a place: those who have one use it by and by, so
    neither what is free now nor that and what they may use tells how many more there is room for.
    """

    def __init__(self, line: IO[str], files: list[IO[str]], most: int | None) -> None:
        self.line = line
        self._files = files
        self._most = most

    def take(self) -> bool:
        """Take a free place if there is room for one more, and close all other files; for who has the line's
        lock."""
        free = [file for file in self._files if taken(file)]
        held = len(self._files) - len(free)
        if not free or held >= (self._most or self._carried(held)):
            for file in free:
                fcntl.flock(file, fcntl.LOCK_UN)
            return False
        for file in self._files:
            if file is not free[0]:
                file.close()
        return True

    def _carried(self, held: int) -> int:
        now = before = free_mib()
        if held == 0:
            self.line.truncate(0)
            self.line.write(str(now))
            self.line.flush()
        else:
            self.line.seek(0)
            words = self.line.read()
            before = int(words) if words.isdecimal() else now + held * TEST_MIB
        return carried(os.cpu_count() or 1, before) if held == 0 or now >= TEST_MIB else held
