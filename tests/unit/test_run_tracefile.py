from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.errors import UsageError
from harness.model.trace import Event, What
from harness.run.tracefile import read_trace, write_trace

EVENTS = (
    Event(at=1.25, client="a/0", what=What.ASKED, step=0, op="echo", bytes=7),
    Event(at=2.5, client="a/0", what=What.LOST, detail={"errno": "ECONNRESET", "n": 1, "x": None, "t": True}),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.jsonl", EVENTS)
    assert read_trace(tmp_path / "trace.jsonl") == EVENTS
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == len(EVENTS)


def test_an_empty_trace_is_one(tmp_path: Path) -> None:
    write_trace(tmp_path / "t", ())
    assert read_trace(tmp_path / "t") == ()


@pytest.mark.parametrize("line", [b"{", b'{"at": 1, "client": "a/0", "what": "wondered"}'])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: bytes) -> None:
    write_trace(tmp_path / "t", EVENTS)
    with (tmp_path / "t").open("ab") as file:
        file.write(line)
    with pytest.raises(UsageError, match=r"/t:3: no event"):
        read_trace(tmp_path / "t")
