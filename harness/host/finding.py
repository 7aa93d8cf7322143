"""What a probe found about one ability of a host."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec


class Verdict(StrEnum):
    """Whether an ability is there."""

    OK = "ok"
    MISSING = "missing"  # not there
    DENIED = "denied"  # there, but not for us
    BROKEN = "broken"  # there, but doesn't work
    UNKNOWN = "unknown"  # could not be found out; `seen` says why
    NOT_NEEDED = "not-needed"  # doesn't matter on this host


class Step(msgspec.Struct, frozen=True):
    """One command that `doctor --fix` may run, as root, once it was allowed to.

    `effect` says when it counts where that is not just now: at each boot, from the next login on.
    """

    argv: tuple[str, ...]
    effect: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One line of `vsock-harness doctor`.

    `seen` is what the verdict rests on. `needed_for` says who misses the ability. `mend` is the exact command
    that mends it on this host, or "" where there is none. `fix` is what of it is safe to run, in this order;
    empty where a person has to decide (see `mends`).
    """

    ability: str
    verdict: Verdict
    seen: str
    needed_for: str
    mend: str = ""
    fix: tuple[Step, ...] = ()

    @property
    def fine(self) -> bool:
        """Whether nothing is to be done."""
        return self.verdict in {Verdict.OK, Verdict.NOT_NEEDED}


class Probe(Protocol):
    """Looks at one ability. `look` never raises for what it may find; it changes nothing on the host."""

    @property
    def ability(self) -> str:
        """The id, as errors and `doctor` print it."""

    def look(self) -> Finding:
        """Find out, by doing where that is possible."""
