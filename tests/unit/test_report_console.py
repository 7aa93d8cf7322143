"""The table on the terminal."""

from __future__ import annotations

import pytest

from harness.report.console import Line, table


def test_brackets_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    line = Line("test_x.py::test_x[bullseye-loaded]", "host-requirements", "·", "passed", None, "seen [so]")
    assert "test_x.py::test_x[bullseye-loaded]" in "".join(table([line], False).split())
    assert "seen [so]" in table([line], False)
    assert "bullseye" in table([line], True)


def test_a_long_name_is_folded_not_cut() -> None:
    name = f"test_{'x' * 60}.py::test_x[{'y' * 30}]"
    line = Line(name, "host-requirements", "·", "passed", None, "word " * 60)
    assert table([line], False).count("y") == name.count("y")
