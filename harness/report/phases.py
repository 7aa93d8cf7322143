"""What an item's time went into: its pod's phases, its clients, its end."""

from __future__ import annotations

import msgspec

from harness.report.results import Item

CLIENTS = "clients"
END = "end"


class Phases(msgspec.Struct, frozen=True):
    """Seconds by phase, in order."""

    seconds: dict[str, float]

    @property
    def whole(self) -> float:
        """All of it."""
        return sum(self.seconds.values())

    @property
    def pod(self) -> float:
        """Until the pod was ready: all phases but the clients' and the end."""
        return sum(time for name, time in self.seconds.items() if name not in (CLIENTS, END))

    @property
    def cells(self) -> tuple[str, ...]:
        """As a table says it, under `HEADINGS`."""
        rest = (self.seconds.get(name) for name in (CLIENTS, END))
        return tuple(map(shown, (self.whole, self.pod, *rest)))

    def __str__(self) -> str:
        """``2.84 s: pod 2.16, clients 0.51, end 0.18``."""
        whole, *parts = self.cells
        return f"{whole} s: " + ", ".join(map(" ".join, zip(HEADINGS[1:], parts, strict=True)))


HEADINGS = ("all", "pod", CLIENTS, END)


def phases(item: Item) -> Phases | None:
    """Of an item whose pod came up."""
    if item.facts is None:
        return None
    found = dict(item.facts.seconds)
    found.pop("judge", None)  # a part of the call
    for name, phase in ((CLIENTS, "call"), (END, "teardown")):
        if phase in item.case.seconds:
            found[name] = item.case.seconds[phase]
    return Phases(found) if found else None


def shown(seconds: float | None) -> str:
    """To a hundredth, a dot for nothing."""
    return "·" if seconds is None or seconds < 0.005 else f"{seconds:.2f}"
