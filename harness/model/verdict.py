"""What a scenario showed on one link, against what was expected of it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.model.claims import Claim
from harness.model.expect import ENDS, Bounds, Counts, Word
from harness.model.link import Link


class Outcome(StrEnum):
    """Whether a link behaved as expected."""

    PASSED = "passed"
    FAILED = "failed"


class ClientEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How one client ended. `end` is one of `ENDS`; `intact` and `waited` can only be true of served ones.

    `at`: the time of the event that decided it, on the trace's clock (0 without any event). `why`: what
    happened, to follow the client's name: ``was refused: ECONNRESET at connect``.
    """

    client: str
    end: Word
    intact: bool
    waited: bool
    at: float
    why: str
    facts: dict[str, str] = {}

    def is_(self, word: Word) -> bool:
        """Whether `word` is said of this client."""
        match word:
            case Word.INTACT:
                return self.intact
            case Word.WAITED:
                return self.waited
        return self.end is word


class Slowed(msgspec.Struct, frozen=True, kw_only=True):
    """How many times slower `group` was than `against`; None where it can't be said, and `why` says why not.

    `by` is what was compared, with both figures: ``round trips 2.1 ms, then 107 ms``. `slowest` is the client
    of the group that was `worst` times slower, if that was asked to be at most `most`.
    """

    group: str
    against: str
    times: float | None
    expected: Bounds
    by: str = ""
    why: str = ""
    slowest: str = ""
    worst: float | None = None
    most: int | None = None

    @property
    def asked(self) -> str:
        """What was expected: ``at most 9 ×, the slowest client at most 12 ×``."""
        return f"{self.expected} ×" + (
            "" if self.most is None else f", the slowest client at most {self.most} ×"
        )

    @property
    def fits(self) -> bool:
        """Whether it is as expected."""
        known = self.times is not None and not self.why and self.times in self.expected
        return known and (self.most is None or (self.worst is not None and self.worst <= self.most))

    def __str__(self) -> str:
        """Such as ``beside 51 × as slow as alone, its slowest client 60 ×``: one measure, that of `asked`."""
        if self.times is None:
            return f"{self.group} not known how much slower than {self.against}"
        worst = "" if self.worst is None else f", its slowest client {self.worst:.3g} ×"
        return f"{self.group} {self.times:.3g} × as slow as {self.against}{worst}"


CONTAINERS = "containers"
"""As a `Noticing.end`: no end of a connection, but the client's containers."""

NEVER_GONE = "were not told to be gone"
"""Said of containers of whose removal the agent told nothing."""


class Noticing(msgspec.Struct, frozen=True, kw_only=True):
    """When the `end` (host or guest) of `client`'s connection noticed the fault, or its ``containers`` were
    gone: `seconds` after it, None if that is not known to have been. `most`: seconds of a plain machine,
    which are `slowness` times as many here."""

    client: str
    end: str
    seconds: float | None
    most: float
    slowness: float

    @property
    def fits(self) -> bool:
        """Whether it was soon enough."""
        return self.seconds is not None and self.seconds <= self.most * self.slowness

    @property
    def expected(self) -> str:
        """Such as ``within 0.2 s × 8.5``."""
        return f"within {self.most:g} s" + (f" × {self.slowness:.3g}" if self.slowness != 1 else "")

    def __str__(self) -> str:
        """Such as ``the host's end of idle/0 noticed after 0.03 s``."""
        after = "" if self.seconds is None else f" after {self.seconds:.3g} s"
        if self.end == CONTAINERS:
            return f"the containers of {self.client} {f'were gone{after}' if after else NEVER_GONE}"
        return f"the {self.end}'s end of {self.client} {f'noticed{after}' if after else 'did not notice'}"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Clients counted by each word, and what was expected; `name` is a group's, or empty for all."""

    name: str
    clients: int
    seen: dict[Word, int]
    expected: Counts | None

    def __str__(self) -> str:
        """What was seen of what can be expected: ``served 1, waiting 7``."""
        return ", ".join(f"{word} {self.seen[word]}" for word in ENDS if self.seen[word])


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict as a row of the terminal table. `other` counts stale and lost clients."""

    scenario: str
    claim: Claim
    link: Link
    served: int
    waiting: int
    refused: int
    garbled: int
    other: int
    expected: str
    outcome: Outcome


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scenario on one link.

    `total` counts all clients, `groups` each group, in the plan's order; what the scenario states of the two
    has `expected`. `noticed`, `slowed`: each noticing and each slowdown that is expected. `differences`: each
    in words a reader understands; empty if and only if passed.
    """

    scenario: str
    claim: Claim
    link: Link
    outcome: Outcome
    total: Tally
    groups: tuple[Tally, ...]
    differences: tuple[str, ...]
    ends: tuple[ClientEnd, ...]
    noticed: tuple[Noticing, ...] = ()
    slowed: tuple[Slowed, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return self.outcome is Outcome.PASSED

    @property
    def difference(self) -> str:
        """The first of `differences`, or an empty string."""
        return self.differences[0] if self.differences else ""

    @property
    def expected(self) -> str:
        """What was expected, in one line; words that are expected of nobody are left out."""
        if self.total.expected is not None:
            return _stated(self.total.expected)
        return "; ".join(f"{tally.name}: {_stated(tally.expected or {})}" for tally in self.groups)

    @property
    def row(self) -> Row:
        """The counts for a table."""
        seen = self.total.seen
        return Row(
            scenario=self.scenario,
            claim=self.claim,
            link=self.link,
            served=seen[Word.SERVED],
            waiting=seen[Word.WAITING],
            refused=seen[Word.REFUSED],
            garbled=seen[Word.GARBLED],
            other=seen[Word.STALE] + seen[Word.LOST],
            expected=self.expected,
            outcome=self.outcome,
        )


def _stated(counts: Counts) -> str:
    return ", ".join(
        f"{word} {counts[word]}"
        for word in Word
        if word in counts and (counts[word].max != 0 or word not in ENDS)
    )
