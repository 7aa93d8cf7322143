"""One deadline type and the only polling loop of the tree."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from harness.model.errors import DeadlinePassed

T = TypeVar("T")


class Deadline:
    """A point on the monotonic clock, made once and passed down.

    `seconds` is from now on. `Deadline(None)` never passes.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Seconds left, never negative; None if there is no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the point has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self, what: str) -> None:
        """Raise `DeadlinePassed` that names `what` if the point has passed."""
        if self.expired:
            raise DeadlinePassed(f"{what}: not within {self.seconds:.1f} s")


def until(fact: Callable[[], T | None], deadline: Deadline, what: str, *, every: float = 0.05) -> T:
    """Call `fact` until it returns something true and return that.

    For facts that nobody announces (another program's socket, a file in sysfs). Where there is an
    event, a notification or an EOF to wait for, wait for that instead.

    :param every: seconds between two looks.
    :raise DeadlinePassed: with `what` in its text, when the deadline passes first.
    """
    while True:
        value = fact()
        if value:
            return value
        deadline.check(what)
        time.sleep(every)


async def until_async(
    fact: Callable[[], T | None], deadline: Deadline, what: str, *, every: float = 0.05
) -> T:
    """As `until`, for coroutines: other tasks run between two looks."""
    while True:
        value = fact()
        if value:
            return value
        deadline.check(what)
        await asyncio.sleep(every)
