"""The report's round trips: from traces alone, drawn on one scale for all links, the same in tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from harness.model.trace import Event
from harness.report.html import page
from harness.report.latency import latency, measured
from harness.report.markdown import markdown
from harness.report.reading import read
from harness.report.results import Results
from tests.unit import runs
from tests.unit.traces import everybody_served, plan, right

FLOOD = "multiple-clients-flood"


def run(folder: Path, **beside: float) -> Results:
    """A run of the flood; by link, how many times slower the others were beside it."""
    cases = []
    for link, times in beside.items():
        on_link = plan(FLOOD, link.replace("_", "-"))
        cases.append(runs.evidence(folder, on_link, everybody_served(on_link, slowness={"beside": times})))
    return runs.write(folder, cases, (FLOOD,))


def text(results: Results) -> str:
    """The section without its tags, words apart by one space."""
    section = latency(results)
    assert section is not None
    return " ".join(re.sub(r"<[^>]*>", " ", str(section.body)).split())


def test_each_group_of_each_link_has_its_figures(tmp_path: Path) -> None:
    said = text(run(tmp_path, vsock=50, serial_proxy=4))
    assert "vsock alone 1 ms – 1 ms beside 50 ms – 50 ms serial-proxy alone" in said
    assert re.search(r"vsock beside \d+ 50 ms 50 ms · 50 × alone", said)
    assert re.search(r"serial-proxy beside \d+ 4 ms 4 ms · 4 × alone", said)
    assert re.search(r"vsock flood · · · [\d.]+ \w+/s ·", said)
    assert re.search(r"vsock alone \d+ 1 ms 1 ms · ·", said)


def test_the_scale_is_one_for_all_links_and_multiplies(tmp_path: Path) -> None:
    section = latency(run(tmp_path, vsock=100, serial_proxy=10))
    assert section is not None
    drawn = str(section.body)
    labels = re.findall(r"<text x=([\d.]+)%>([^<]*)<", drawn)
    assert [label for _, label in labels] == ["1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms", "100 ms"]
    assert (labels[0][0], labels[3][0], labels[-1][0]) == ("0.00", "50.00", "100.00")
    assert re.findall(r"cx=([\d.]+)%", drawn) == ["0.00", "100.00", "0.00", "50.00"]


def test_what_is_compared_with_is_told_from_what_was_loaded(tmp_path: Path) -> None:
    section = latency(run(tmp_path, vsock=2))
    assert section is not None
    kinds = re.findall(r"<p class=(base|loaded)><span>(\w+)", str(section.body))
    assert kinds == [("base", "alone"), ("loaded", "beside")]


def test_a_slowdown_is_in_the_verdict_line_too(tmp_path: Path) -> None:
    whole = page(run(tmp_path, vsock=9000))
    assert "≠ beside 9e+03 × as slow as alone" in whole
    assert "beside at most" in whole
    assert "href=#latency" in whole


def test_other_scenarios_have_no_such_section(tmp_path: Path) -> None:
    results = runs.mixed(tmp_path)
    assert latency(results) is None
    assert "| scenario |" not in markdown(results)


@pytest.mark.parametrize("gone", ["trace.jsonl", "verdict.json", "plan.json"])
def test_evidence_that_is_missing_is_no_error(tmp_path: Path, gone: str) -> None:
    run(tmp_path, vsock=3)
    (tmp_path / f"{FLOOD}-vsock" / gone).unlink()
    results = read(tmp_path)
    assert (gone == "verdict.json") == bool(measured(results))
    assert page(results)
    assert markdown(results)


@pytest.mark.parametrize("trips", [(0,), (0, 10**10), (1, 1, 1)])
def test_times_of_any_size_can_be_drawn(tmp_path: Path, trips: Sequence[int]) -> None:
    on_link = plan(FLOOD, "vsock")

    def of(event: Event) -> Event:
        return msgspec.structs.replace(event, trips=tuple(trips)) if event.trips else event

    trace = [of(event) for event in right(on_link)]
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, trace)], (FLOOD,))
    places = re.findall(r"cx=([\d.]+)%", page(results))
    assert all(0 <= float(place) <= 100 for place in places)


def test_the_summary_has_the_same_as_a_table(tmp_path: Path) -> None:
    lines = markdown(run(tmp_path, vsock=50)).splitlines()
    assert "| scenario | link | group | round trips | p50 | p99 | throughput | as slow as |" in lines
    row = next(line for line in lines if "`beside`" in line)
    assert re.fullmatch(
        r"\| `multiple-clients-flood` \| vsock \| `beside` \| \d+ \| 50 ms \| 50 ms \| · \| 50 × alone \|",
        row,
    )
