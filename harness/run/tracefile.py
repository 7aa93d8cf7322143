"""Traces as files: JSON lines, one `Event` a line, in the order of the trace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.trace import Event


def write_trace(path: Path, events: Iterable[Event]) -> None:
    """Write `events` to `path`, replacing what is there.

    :raise OSError: when that fails.
    """
    path.write_bytes(msgspec.json.Encoder().encode_lines(events))


def read_trace(path: Path) -> tuple[Event, ...]:
    """The events of a file that `write_trace` wrote.

    :raise UsageError: naming the line that is no event.
    :raise OSError: when it can't be read.
    """
    decoder = msgspec.json.Decoder(Event)
    events = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise UsageError(f"{path}:{number}: no event of a trace: {error}") from error
    return tuple(events)
