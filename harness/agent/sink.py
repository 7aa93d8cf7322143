"""Seeded data on their way: what SINK compares, and what either end sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .seeded import Seeded, views
from .wire import Bulk, Frame, Kind

_SHOWN = 16
"""Bytes told of each where data differs."""


class Sink:
    """What SINK has received so far, and where that first differed from what it must be."""

    def __init__(self, seed: int, total: int) -> None:
        self.came = 0
        self.wrong: dict[str, Any] | None = None
        self._data = Seeded(seed, total)

    @property
    def whole(self) -> bool:
        """Whether all has come."""
        return self.came >= self._data.total

    def take(self, piece: bytes | memoryview) -> None:
        """Compare the next piece with what it must be; nothing of it is kept."""
        if self.wrong is None and not self._data.holds(self.came, piece):
            expected = self._data.piece(self.came, len(piece))
            pairs = enumerate(zip(expected, bytes(piece)))
            at = next((place for place, (want, got) in pairs if want != got), len(expected))
            shown = expected[at : at + _SHOWN].hex(), bytes(piece[at : at + _SHOWN]).hex()
            self.wrong = {"at": self.came + at, "expected": shown[0], "seen": shown[1]}
        self.came += len(piece)


def pieces(request: int, seed: int, total: int, chunk: int, *, bulk: bool) -> Iterator[Frame | Bulk]:
    """All `total` bytes in frames of `chunk` bytes of payload, the last one shorter; DATA, or BULK.

    :raise ValueError: if `chunk` is not positive.
    """
    for view in views(seed, total, chunk):
        yield Bulk(request, view) if bulk else Frame(Kind.DATA, request, bytes(view))
