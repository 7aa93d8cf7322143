"""Trying flock(2) without waiting."""

from __future__ import annotations

import fcntl
from typing import IO


def held(file: IO[str] | IO[bytes]) -> bool:
    """Whether another open file holds the flock. Looking disturbs nobody: looks are shared locks."""
    return not _locked(file, fcntl.LOCK_SH)


def taken(file: IO[str] | IO[bytes]) -> bool:
    """Whether `file` now has the flock for itself, until it is closed; False if others hold it."""
    return _locked(file, fcntl.LOCK_EX)


def _locked(file: IO[str] | IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
