"""What clients' ends are called, and how many of each a scenario expects."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeAlias

import msgspec

from harness.model.factwords import EARLY, GARBLED, FactName


class Word(StrEnum):
    """What a client's end is called. `docs/scenarios.md` defines each by the client's events."""

    SERVED = "served"
    INTACT = "intact"
    WAITED = "waited"
    WAITING = "waiting"
    REFUSED = "refused"
    GARBLED = "garbled"
    STALE = "stale"
    LOST = "lost"


ENDS: tuple[Word, ...] = tuple(word for word in Word if word not in (Word.INTACT, Word.WAITED))
"""Every client has exactly one of these; `intact` and `waited` are said of served clients besides."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `min` to `max` clients, both included; `max` None is no upper bound."""

    min: int = 0
    max: int | None = None

    def __contains__(self, count: float) -> bool:
        return self.min <= count and (self.max is None or count <= self.max)

    def __str__(self) -> str:
        if self.min == self.max:
            return str(self.min)
        if self.max is None:
            return f"at least {self.min}"
        return f"at most {self.max}" if self.min == 0 else f"{self.min} to {self.max}"


Counts: TypeAlias = dict[Word, Bounds]
FactWanted: TypeAlias = str | tuple[str, ...]
"""What a fact must be: one value, or one of several."""


def is_wanted(seen: str | None, wanted: FactWanted) -> bool:
    """Whether a fact is as expected; None is one that nobody reported."""
    return seen == wanted if isinstance(wanted, str) else seen in wanted


def is_unheard_of(fact: str, seen: str | None) -> bool:
    """Whether a fact has a value that is right only where a scenario names it: what is garbled, and what was
    seen before a fault was done."""
    garbled = fact == FactName.RECONNECT and seen == GARBLED
    return garbled or (fact == FactName.SEES and seen is not None and seen.endswith(EARLY))


def is_right(fact: str, seen: str | None, wanted: FactWanted | None) -> bool:
    """Whether a fact may be that. One that is not named (`wanted` None) may be anything but
    `is_unheard_of`."""
    return not is_unheard_of(fact, seen) if wanted is None else is_wanted(seen, wanted)


def in_words(wanted: FactWanted) -> str:
    """``EPIPE`` or ``EPIPE or ENODEV``."""
    return wanted if isinstance(wanted, str) else " or ".join(wanted)


def version_of(release: str) -> tuple[int, ...]:
    """Major and minor of a kernel's release (uname(2)) or version: ``6.12.118-cloud-amd64`` is (6, 12).

    :raise ValueError: it does not begin with two numbers.
    """
    major, minor = re.findall(r"\d+", release)[:2]
    return int(major), int(minor)


class OnKernel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a group's fact must be instead, where the host's kernel is `since` or later; `by_guest`: the
    guest's."""

    group: str
    fact: str
    since: str
    wanted: FactWanted
    by_guest: bool = False


class Slowdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group is `bounds` times as slow as the group `against`, which did the like without the load.

    By the medians of their round trips where both have `ping` steps, else by the bytes that a client moves in
    a second (`echo`, `send`, `receive`, `flood`). `worst` bounds the slowest of its clients in the same
    way, which a median would hide; None is not asked. `slowness`: by how much it is stretched here how soon a
    flood must tell that it moves.
    """

    against: str
    bounds: Bounds
    worst: int | None = None
    slowness: float = 1.0


class Noticed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the fault to when the `host`'s and the `guest`'s end of a client's connection noticed it, and to
    when the agent had reaped the last of the client's `containers`: seconds of a plain machine, at most; None
    is not asked. `slowness`: by how much they are stretched here."""

    host: float | None = None
    guest: float | None = None
    containers: float | None = None
    slowness: float = 1.0

    @property
    def bounds(self) -> dict[str, float]:
        """Those that are asked, by name."""
        asked = {"host": self.host, "guest": self.guest, "containers": self.containers}
        return {name: most for name, most in asked.items() if most is not None}


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one link is expected to show. Words left out of the file are already filled in.

    Either `totals`, over all clients, or `groups`, one entry for each group, is given; the other is None.
    Where `intact` is missing, all served clients must be; where `waited` is missing, it is not compared.
    No other word is missing.
    `facts`: group → fact's name → value, or values of which one; so every client of the group must have it.
    Those are there, too, that a group has which a fault does nothing to (`harness.model.unsaid`).
    `newer`: facts that are others since some kernel. `noticed`: by the group that meets the fault.
    `slowdown`: by the group that is slowed down.
    """

    totals: Counts | None = None
    groups: dict[str, Counts] | None = None
    facts: dict[str, dict[str, FactWanted]] = {}
    newer: tuple[OnKernel, ...] = ()
    noticed: dict[str, Noticed] = {}
    slowdown: dict[str, Slowdown] = {}

    def fits(self, group: str, fact: str, seen: str | None) -> bool:
        """Whether a fact of a client of `group` `is_right` (None: it was not reported)."""
        return is_right(fact, seen, self.facts.get(group, {}).get(fact))

    def on_kernel(self, release: str, guest: str) -> Expectation:
        """This, as it is on a host whose kernel is `release` (uname(2)), of a guest whose is `guest`.

        With nothing left in `newer`.
        """
        facts = {group: dict(wanted) for group, wanted in self.facts.items()}
        for one in self.newer:
            if version_of(guest if one.by_guest else release) >= version_of(one.since):
                facts[one.group][one.fact] = one.wanted
        return msgspec.structs.replace(self, facts=facts, newer=())

    def stretched(self, slowness: float) -> Expectation:
        """This, on a host that is so many times slower than a plain machine."""
        noticed = {
            group: msgspec.structs.replace(one, slowness=slowness) for group, one in self.noticed.items()
        }
        slowdown = {
            group: msgspec.structs.replace(one, slowness=slowness) for group, one in self.slowdown.items()
        }
        return msgspec.structs.replace(self, noticed=noticed, slowdown=slowdown)
