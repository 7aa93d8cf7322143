"""What this host and this process hold now: each must be the same after a pod as before it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.host.cid import DEVICE

from .test_memory import pss_mib


def held(folder: Path, *others: Path) -> dict[str, int]:
    """Counts: processes of this run, this process's descriptors, CIDs held by anybody, files.

    :param folder: the run's. Its files are counted, and those in `others`.
    """
    return {
        "processes": sum(str(folder).encode() in _bytes(path / "environ") for path in _processes()),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "CIDs": sum(_holds_cid(path) for path in _processes()),
        "files": sum(len(files) for place in (folder, *others) for _, _, files in os.walk(place)),
    }


def memory_mib() -> dict[str, float]:
    """This process's PSS, and what the kernel has in slabs that it can't give back (proc_meminfo(5))."""
    fields = dict(line.split(":") for line in _bytes(Path("/proc/meminfo")).decode().splitlines())
    return {
        "PSS of the worker": pss_mib(os.getpid()),
        "kernel slabs": int(fields["SUnreclaim"].split()[0]) / 1024,
    }


def _processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def _bytes(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _holds_cid(process: Path) -> int:
    """How many descriptors of a process are of the device that CIDs are claimed on."""
    count = 0
    with contextlib.suppress(OSError):
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                count += fd.readlink() == DEVICE
    return count
