"""The table on the terminal."""

from __future__ import annotations

import pytest

from harness.model.claims import Claim
from harness.model.link import Link
from harness.model.verdict import Outcome, Row
from harness.report.console import Line, table


def test_brackets_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    line = Line("test_x.py::test_x[bullseye-loaded]", "host-requirements", "·", "passed", None, "seen [so]")
    assert "test_x.py::test_x[bullseye-loaded]" in "".join(table([line], False).split())
    assert "seen [so]" in table([line], False)
    assert "bullseye" in table([line], True)


def row(served: int, waiting: int) -> Row:
    return Row(
        scenario="x",
        claim=Claim.MULTIPLE_CLIENTS,
        link=Link.VSOCK,
        served=served,
        waiting=waiting,
        refused=0,
        garbled=0,
        other=0,
        expected="served 1, waiting 7",
        outcome=Outcome.PASSED,
    )


def test_counts_that_nobody_has_are_no_columns() -> None:
    lines = [
        Line("eight", "multiple-clients", "vsock", "passed", row(8, 0)),
        Line("eight", "multiple-clients", "virtio-serial", "passed", row(1, 7)),
        Line("test_x.py::test_x", "multiple-clients", "vsock", "passed", None, "4 at once"),
        Line("test_x.py::test_y", "multiple-clients", "vsock", "skipped", None, "no image"),
    ]
    told = [" ".join(line.split()) for line in table(lines, False).splitlines()]
    assert told == [
        "claim scenario link served waiting expected",
        "multiple-clients eight virtio-serial passed 1 7 served 1, waiting 7",
        "eight vsock passed 8 · served 1, waiting 7",
        "test_x.py::test_x vsock passed · · seen: 4 at once",
        "test_x.py::test_y vsock skipped · · no image",
    ]


def test_a_long_name_is_folded_not_cut() -> None:
    name = f"test_{'x' * 60}.py::test_x[{'y' * 30}]"
    line = Line(name, "host-requirements", "·", "passed", None, "word " * 60)
    assert table([line], False).count("y") == name.count("y")
