"""How a host's slowness is found, from tries whose times are given."""

from __future__ import annotations

import pytest

from harness.host import speed


@pytest.mark.parametrize(
    ("tries", "left", "found"),
    [
        ([0.0075, 0.0076], 0, 1.0),
        ([0.15, 0.075, 0.074, 0.01], 1, 0.074 / 0.0075),  # an emulator translates what it sees first
        ([0.15, 0.12, 0.09, 0.075, 0.01], 1, 10.0),
        ([0.075, 0.5, 0.01], 1, 10.0),  # interrupted
        ([0.001, 0.001], 0, 1.0),
    ],
)
def test_tries_end_when_they_get_no_better(
    monkeypatch: pytest.MonkeyPatch, tries: list[float], left: int, found: float
) -> None:
    monkeypatch.setattr(speed, "_known", [])
    monkeypatch.setattr(speed, "_timed", lambda: tries.pop(0))
    assert speed.slowness() == pytest.approx(found)
    assert len(tries) == left
    assert speed.slowness() == pytest.approx(found), "it is not measured again"
