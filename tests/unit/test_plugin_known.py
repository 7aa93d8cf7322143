"""What is told to workers of scenario files that were read already."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model import scenario
from harness.model.errors import UsageError
from harness.plugin import known

CATALOGUE = sorted((Path(__file__).resolve().parents[2] / "scenarios").glob("*.yaml"))
SMALL = """\
title: One client
claim: serial-portable
links: [vsock]
clients: 1
workload:
  - ping: {}
expect:
  vsock: {served: 1}
"""


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known at first."""
    monkeypatch.setattr(known, "_read", {})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    found: list[Path] = []

    def load(path: Path) -> scenario.Scenario:
        found.append(path)
        return scenario.load(path)

    monkeypatch.setattr(known, "load", load)
    return found


def test_a_worker_that_was_told_reads_none_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, loads: list[Path]
) -> None:
    read = [known.scenario(path) for path in CATALOGUE]
    words = known.told()
    monkeypatch.setattr(known, "_read", {})
    loads.clear()
    known.learn(words)
    assert [known.scenario(path) for path in CATALOGUE] == read
    assert loads == []


def test_other_words_or_another_name_are_another_scenario(tmp_path: Path, loads: list[Path]) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(SMALL)
    two.write_text(SMALL)
    assert [known.scenario(path).name for path in (one, two, one)] == ["one", "two", "one"]
    one.write_text(SMALL.replace("One client", "Another"))
    assert known.scenario(one).title == "Another"
    assert loads == [one, two, one]


def test_a_mistake_is_told_each_time(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(SMALL.replace("served", "severd"))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"one\.yaml:8:"):
            known.scenario(path)
    assert known.told() == "{}"
    with pytest.raises(UsageError, match="cannot be read"):
        known.scenario(tmp_path / "none.yaml")
