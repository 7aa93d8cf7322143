"""How a host's slowness is found, from tries whose times are given."""

from __future__ import annotations

import pytest

from harness.host import speed


@pytest.mark.parametrize(
    ("tries", "left", "found"),
    [
        ([1.0, 1.01], 0, 1.0),
        ([20, 10, 9.8, 1], 1, 9.8),  # an emulator translates what it sees first
        ([20, 16, 12, 10, 1], 1, 10.0),
        ([10, 60, 1], 1, 10.0),  # interrupted
        ([0.1, 0.1], 0, 1.0),
    ],
)
def test_tries_end_when_they_get_no_better(
    monkeypatch: pytest.MonkeyPatch, tries: list[float], left: int, found: float
) -> None:
    monkeypatch.setattr(speed, "_known", [])
    monkeypatch.setattr(speed, "_timed", lambda: tries.pop(0) * speed._REFERENCE)
    assert speed.slowness() == pytest.approx(found)
    assert len(tries) == left
    assert speed.slowness() == pytest.approx(found), "it is not measured again"
