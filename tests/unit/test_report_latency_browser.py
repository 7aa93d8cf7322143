"""The section of round trips in a real browser: it fits a phone, is drawn in its colours, can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import html
from tests.unit import chromium, runs
from tests.unit.traces import everybody_served, plan

pytestmark = pytest.mark.slow

FLOOD = "multiple-clients-flood"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    cases = []
    for link, times in (("vsock", 51), ("serial-proxy", 1.6)):
        on_link = plan(FLOOD, link)
        cases.append(runs.evidence(folder, on_link, everybody_served(on_link, slowness={"beside": times})))
    return html.write(runs.write(folder, cases, (FLOOD,)), folder)


BOXES = """[...document.querySelectorAll("#latency :is(.p50, .p99, .trips text)")].map((mark) => {
  const box = mark.getBoundingClientRect();
  return [box.left, box.right];
})"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_all_of_it_is_within_the_window(page: chromium.Page, report: Path, width: int, dark: bool) -> None:
    page.load(report, width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") == width
    boxes = page.run(BOXES)
    assert len(boxes) >= 2 * 4 + 3
    assert all(0 <= left <= right <= width for left, right in boxes)
    assert page.run(chromium.CONTRAST) == []


def test_base_and_loaded_differ_in_colour_and_fill(page: chromium.Page, report: Path) -> None:
    page.load(report)
    fills = page.run(
        "[...document.querySelectorAll('#latency .p50')].map((mark) => getComputedStyle(mark).fill)"
    )
    strokes = page.run(
        "[...document.querySelectorAll('#latency .p50')].map((mark) => getComputedStyle(mark).stroke)"
    )
    assert fills[0] == "rgb(255, 255, 255)"
    assert fills[1] == strokes[1] != strokes[0]


def test_the_further_right_the_slower(page: chromium.Page, report: Path) -> None:
    page.load(report)
    alone, beside, proxy_alone, proxy_beside = page.run(
        "[...document.querySelectorAll('#latency .p50')].map((mark) => mark.getBoundingClientRect().left)"
    )
    assert alone == proxy_alone < proxy_beside < beside
