"""What facts say beside errnos' names; docs/scenarios.md defines each."""

from __future__ import annotations

from enum import StrEnum

NOTHING, EOF, CALLED = "nothing", "eof", "called"
GONE, SERVED, SILENT, GARBLED = "gone", "served", "silent", "garbled"
OK, BLOCKED = "ok", "blocked"
OPENED, NO_DEVICE = "opened", "no-device"

EARLY = " early"
"""Behind what `sees` says where that was seen before the fault was done, which had begun."""


class FactName(StrEnum):
    """Facts that steps report."""

    SECOND_OPEN = "second-open"
    SEES = "sees"
    NEXT_SEND = "next-send"
    THEN = "then"
    RECONNECT = "reconnect"
    GUEST = "guest"
    CONTAINERS = "containers"


WORDS: dict[FactName, tuple[str, ...]] = {
    FactName.SECOND_OPEN: (OPENED, NO_DEVICE),
    FactName.SEES: (NOTHING, EOF, CALLED),
    FactName.NEXT_SEND: (OK, BLOCKED),
    FactName.THEN: (GONE, SERVED, SILENT, EOF),
    FactName.RECONNECT: (SERVED, SILENT, EOF, GARBLED),
    FactName.GUEST: (NOTHING, EOF),
    FactName.CONTAINERS: (GONE,),
}
"""What each may be; an errno's name besides, or, of `containers`, ``2 running``."""

RUNNING = r"[1-9]\d* running"
"""The other value of `containers`, as a regular expression."""
