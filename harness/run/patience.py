"""When clients that see nothing are called waiting, instead of being waited for.

Silence alone proves nothing on a slow machine. So holding clients make round trips meanwhile: a link that
answers those again and again, and in all that time had nothing for the others, lets them wait.
"""

from __future__ import annotations

import time
from collections.abc import Collection

ROUNDS = 5
"""Rounds of answered round trips without any news before somebody is waiting."""

ROUND = 0.03
"""Least seconds from one round to the next."""

SILENCE = 0.25
"""Least seconds without news, with round trips."""

BLIND = 0.75
"""Least seconds without news where the holding connection can make no round trips."""

HUNG = 20.0
"""Seconds without news after which a system is called hung, whatever else there is to see."""


class Patience:
    """Counts rounds and silence. All times are stretched by `slowness`."""

    def __init__(self, slowness: float) -> None:
        self._slowness = slowness
        self._news_at = self._round_at = time.monotonic()
        self._out: set[str] = set()
        self._rounds = 0

    @property
    def silence(self) -> float:
        """Seconds since the last news, as seconds of a plain machine."""
        return (time.monotonic() - self._news_at) / self._slowness

    @property
    def unanswered(self) -> frozenset[str]:
        """Holding clients whose round trip is under way."""
        return frozenset(self._out)

    def news(self) -> None:
        """An unfinished client saw something, or something was done that may let it."""
        self._news_at = time.monotonic()
        self._rounds = 0

    def among(self, holders: Collection[str]) -> None:
        """Only `holders` still hold: no answer is expected of any other."""
        self._out &= set(holders)

    def begin_round(self, holders: Collection[str]) -> bool:
        """Whether to ask `holders` for a round trip now: the last round is over, and not too young."""
        now = time.monotonic()
        if not holders or self._out or now - self._round_at < ROUND * self._slowness:
            return False
        self._out = set(holders)
        self._round_at = now
        return True

    def back(self, holder: str) -> None:
        """The round trip of `holder` was answered."""
        if holder in self._out:
            self._out.discard(holder)
            self._rounds += not self._out

    def over(self, *, rounds: bool, blind: bool, quick: bool) -> bool:
        """Whether those who have seen nothing since the last news are waiting.

        :param rounds: there are holders that can make round trips, and nobody was in the middle of an answer.
        :param blind: there is something that blocks but can make no round trips.
        :param quick: it is known already that the others wait; one round is enough to see they still do.
        """
        if self.silence >= HUNG:
            return True
        if rounds:
            if quick:
                return not self._out and self._rounds >= 1 and self.silence >= ROUND
            return not self._out and self._rounds >= ROUNDS and self.silence >= SILENCE
        return blind and self.silence >= BLIND
