"""When clients that see nothing are called waiting, instead of being waited for.

Silence alone proves nothing on a slow machine. So holding clients make round trips meanwhile: a link that
answers those again and again, and in all that time had nothing for the others, lets them wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

ROUNDS = 5
"""Rounds of answered round trips without any news before somebody is waiting."""

ROUND = 0.03
"""Least seconds from one round to the next, and from news to a round."""

FEW = 4
"""Holding clients asked in one round, in turn: forty at once take the host from who isn't served yet."""

LATE = 1.0
"""Seconds without news after which a round that isn't over asks all the others, too: are they as mute?"""

SILENCE = 0.25
"""Least seconds without news, with round trips."""

BLIND = 0.75
"""Least seconds without news where the holding connection can make no round trips."""

HUNG = 20.0
"""Seconds without news after which a system is called hung, whatever else there is to see."""


class Attentive:
    """A clock that goes on by `most` seconds at most from one look at it to the next.

    Who looks many times in `most` seconds and then not for a long time did not run, as on a starved host, or
    one that was asleep: nor did those that it waits for, and they are not to be called silent for that time.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._now = self._looked = time.monotonic()

    def look(self) -> None:
        """Take the time."""
        before, self._looked = self._looked, time.monotonic()
        self._now += min(self._looked - before, self._most)

    def __call__(self) -> float:
        """Seconds, as of the last look."""
        return self._now


class Patience:
    """Counts rounds and silence. All times are stretched by `slowness`; `clock` gives seconds."""

    def __init__(self, slowness: float, clock: Callable[[], float] | None = None) -> None:
        self._slowness = slowness
        self._clock = clock or time.monotonic
        self._news_at = self._round_at = self._clock()
        self._holders: frozenset[str] = frozenset()
        self._out: set[str] = set()
        self._answered: set[str] = set()  # all of it since the last news
        self._early: set[str] = set()  # whose round trip under way began before the news
        self._rounds = 0
        self._counts = True  # the round under way began after the news
        self._asked: dict[str, int] = {}  # when last, by the number of the asking

    @property
    def silence(self) -> float:
        """Seconds since the last news, as seconds of a plain machine."""
        return (self._clock() - self._news_at) / self._slowness

    @property
    def unanswered(self) -> frozenset[str]:
        """Holding clients whose round trip is under way."""
        return frozenset(self._out)

    def news(self) -> None:
        """An unfinished client saw something, or something was done that may let it."""
        self._news_at = self._clock()
        self._rounds = 0
        self._answered.clear()
        self._early = set(self._out)
        self._counts = not self._out

    def among(self, holders: Collection[str]) -> None:
        """Who holds now: no answer is expected of any other."""
        self._holders = frozenset(holders)
        self._out &= self._holders
        self._early &= self._out
        self._answered &= self._holders

    def ask(self) -> frozenset[str]:
        """Whom to ask for a round trip now: nobody while the last round, or the news, is too young."""
        now = self._clock()
        due: frozenset[str] = frozenset()
        if self._out:
            if self.silence >= LATE:
                due = self._holders - self._out - self._answered
        elif min(self.silence, (now - self._round_at) / self._slowness) >= ROUND:
            due = frozenset(sorted(self._holders - self._answered or self._holders, key=self._turn)[:FEW])
            self._round_at, self._counts = now, True
        self._asked |= dict.fromkeys(due, 1 + max(self._asked.values(), default=0))
        self._out |= due
        return due

    def back(self, holder: str) -> None:
        """The round trip of `holder` was answered."""
        if holder not in self._out:
            return
        self._out.discard(holder)
        if holder in self._early:
            self._early.discard(holder)
        else:
            self._answered.add(holder)
        self._rounds += self._counts and not self._out

    def _turn(self, holder: str) -> tuple[int, str]:
        """Who was asked longest ago comes first."""
        return self._asked.get(holder, 0), holder

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
            enough = self._rounds >= ROUNDS and self._answered == self._holders
            return not self._out and enough and self.silence >= SILENCE
        return blind and self.silence >= BLIND
