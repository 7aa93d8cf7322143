"""How slow this host is, so that timeouts made on a desktop hold on an emulated machine too."""

from __future__ import annotations

import functools
import hashlib
import os
import time

_REFERENCE = 0.030
"""Seconds `_work` takes on a current desktop core."""


@functools.cache
def slowness() -> float:
    """How many times slower this host is than a current desktop core; at least 1.0.

    Multiply timeouts by it. Takes 60 ms on such a core, once per process. It is wall time, so
    a busy host counts as a slow one; the better of two goes, so that one interruption does not.
    """
    return max(1.0, min(_timed(), _timed()) / _REFERENCE)


def _timed() -> float:
    start = time.perf_counter()
    _work()
    return time.perf_counter() - start


def _work() -> None:
    """Bytecode, system calls and memory, in about the parts the harness and an agent use them."""
    total = 0
    for number in range(300_000):
        total += number & 7
    for _ in range(5_000):
        os.getppid()
        os.access("/", os.R_OK)
    hashlib.sha256(bytes(1 << 20)).digest()
