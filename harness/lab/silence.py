"""A limit for what another machine is asked: one whose kernel hangs never answers, and never hangs up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Limit:
    """So many seconds since it was made, or since something last moved. `passed` says that they are over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._over = threading.Event()
        self.moved()

    def moved(self) -> None:
        """Something came or went: the seconds begin anew."""
        self._since = time.monotonic()

    def watch(self, cut: Callable[[], None]) -> None:
        """On a thread of its own: call `cut` once the seconds are over; returns at `end` too."""
        while (left := self._since + self.seconds - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.passed = True
        cut()

    def end(self) -> None:
        """It is not watched any more."""
        self._over.set()


class Told:
    """A stream to write to, with another's `write`; `limit` is told of each."""

    def __init__(self, write: Callable[[bytes], object], limit: Limit) -> None:
        self._write, self._limit = write, limit

    def write(self, data: bytes) -> None:
        """Write all of it."""
        self._write(data)
        self._limit.moved()


@contextlib.contextmanager
def limited(seconds: float, cut: Callable[[], None]) -> Iterator[Limit]:
    """If for so many seconds nothing is said to have moved, `cut` is called on another thread.

    It must make whatever this thread waits for return.
    """
    limit = Limit(seconds)
    thread = threading.Thread(target=limit.watch, args=(cut,), name="vsock-harness silence", daemon=True)
    thread.start()
    try:
        yield limit
    finally:
        limit.end()
        thread.join()
