"""What closing one half of a connection gives, in the words of the step `shutdown`."""

from __future__ import annotations

from enum import StrEnum


class Answer(StrEnum):
    """What comes back over a connection of which one half is closed."""

    WHOLE = "whole"  # all that the other end sends
    NONE = "none"  # nothing but the end: the device closed the other half as well


class Deaf(StrEnum):
    """What a write to an end that has shut down reading gives, in the words of the step's answer."""

    REFUSED = "EPIPE"
    WRITTEN = "written"  # the device did not tell
