"""How slow this host is, so that timeouts made on a desktop hold on an emulated machine too."""

from __future__ import annotations

import hashlib
import os
import time

_REFERENCE = 0.00245
"""Seconds `_work` takes on a current desktop core."""

_TRIES = 4
"""At most. The best goes: no interruption counts, nor an emulator's translating of what it sees first."""

_NO_BETTER = 0.9
"""A try that takes more of the best one's time than this has nothing to add, and is the last."""

_known: list[float] = []


def slowness() -> float:
    """How many times slower this host is than a current desktop core; at least 1.0.

    Multiply timeouts by it. The last that `measure` found, which this calls the first time.
    """
    return _known[-1] if _known else measure()


def measure() -> float:
    """Measure `slowness` again: 5 to 10 ms on a desktop core. It is wall time: a busy host is a slow one."""
    best = _timed()
    for _ in range(_TRIES - 1):
        before, best = best, min(best, _timed())
        if best > _NO_BETTER * before:
            break
    _known[:] = [max(1.0, best / _REFERENCE)]
    return _known[0]


def _timed() -> float:
    start = time.perf_counter()
    _work()
    return time.perf_counter() - start


def _work() -> None:
    """Bytecode, system calls and memory, in about the parts the harness and an agent use them."""
    total = 0
    for number in range(25_000):
        total += number & 7
    for _ in range(420):
        os.getppid()
        os.access("/", os.R_OK)
    hashlib.sha256(bytes(87_000)).digest()
