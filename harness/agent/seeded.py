"""Seeded data: the same bytes on both ends without sending them, at the cost of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

LAP = 65521
"""After so many bytes they come again. A prime, so that pieces of any usual size (pages, packets, frames)
that are lost, doubled or swapped shift what follows: only a shift by a multiple of this goes unseen, and a
multiple of it and of a page is 268 MB or more."""


class Seeded:
    """`total` bytes that depend on `seed` alone, the same on every Python from 3.9.

    The first lap is ``Random(seed).randbytes``, cut from whole 32-bit words. No more is drawn: the generator
    costs 20 times what a copy does, and so much that it, and not the link, would say how fast data moves.
    """

    def __init__(self, seed: int, total: int) -> None:
        self.total = total
        length = min(total, LAP)
        self._lap = Random(seed).randbytes(-(-length // 4) * 4)[:length]
        self._laps = self._lap

    def piece(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from byte `start` on; fewer at the end of all."""
        length = min(length, self.total - start)
        start = self._reach(start, length)
        return self._laps[start : start + length]

    def view(self, start: int, length: int) -> memoryview:
        """`piece`, without a copy."""
        length = min(length, self.total - start)
        start = self._reach(start, length)
        return memoryview(self._laps)[start : start + length]

    def holds(self, start: int, piece: bytes | memoryview) -> bool:
        """Whether `piece` is what stands at byte `start`, all of it; copies nothing."""
        if start + len(piece) > self.total:
            return False
        start = self._reach(start, len(piece))
        return self._laps.startswith(piece, start)

    def _reach(self, start: int, length: int) -> int:
        """Where byte `start` is in `_laps`, which then goes on for `length` bytes from there."""
        start %= LAP
        if len(self._laps) < start + length:
            self._laps = self._lap * (2 + length // LAP)
        return start


def stream(seed: int, total: int, chunk: int) -> Iterator[bytes]:
    """As `views`, but copies."""
    return map(bytes, views(seed, total, chunk))


def views(seed: int, total: int, chunk: int) -> Iterator[memoryview]:
    """Yield the `Seeded` bytes in pieces of `chunk`, the last one shorter.

    :raise ValueError: if `chunk` is not positive.
    """
    if chunk <= 0:
        raise ValueError(f"pieces of {chunk} bytes: must be positive")
    data = Seeded(seed, total)
    for start in range(0, total, chunk):
        yield data.view(start, chunk)
