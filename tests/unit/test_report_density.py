"""The report's part on memory per pod: there when it was measured, true to it, and in the CI's summary."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.judge import density as judge
from harness.model.density import FILE
from harness.report import html, markdown, results
from harness.report.density import density, rows
from harness.run.density import write
from tests.unit import runs
from tests.unit.densities import GOOD, PLAIN, PROXIES, measured


@pytest.fixture
def found(tmp_path: Path) -> results.Results:
    write(tmp_path / "test_density", GOOD)
    return runs.mixed(tmp_path)


def test_it_is_there_when_it_was_measured(found: results.Results) -> None:
    assert found.density == (GOOD,)
    assert "<section id=density " in html.page(found)
    assert density(msgspec.structs.replace(found, density=())) is None


def test_its_rows_are_the_verdicts_figures() -> None:
    verdict = judge.judge(GOOD)
    told = {text: (pss, uss) for text, pss, uss in rows(verdict)}
    assert told["one more proxy: its own process"] == ("0.70 (0.66 … 0.74)", "0.70 (0.67 … 0.73)")
    assert told["a proxy alone, or without shared text"] == ("2.70", "2.70")
    assert len(told) == 6


def points(page: str, css: str) -> list[float]:
    """Heights in pixels of a line's points, from the first on."""
    (group,) = re.findall(rf"<g class=d-{css}>.*?</g>", page, re.DOTALL)
    return [float(y) for y in re.findall(r"<circle cx=[^ ]* cy=([^ ]*)", group)]


def test_points_are_where_their_values_are(found: results.Results) -> None:
    heights = points(html.page(found), "uss")
    assert len(heights) == len(PROXIES)
    down = [220 - height for height in heights]
    scale = down[-1] / sum(PROXIES)
    assert down[0] == pytest.approx(PROXIES[0] * scale, abs=0.1)
    most = 4.5 * len(PROXIES) * 1.04  # the page's line is the highest
    assert scale == pytest.approx(220 / most, rel=0.01)


def test_what_is_less_than_nothing_is_below_the_line_of_nothing(found: results.Results) -> None:
    less = measured(PROXIES, [mb - 3 for mb in PLAIN], PLAIN)
    page = html.page(msgspec.structs.replace(found, density=(less,)))
    zero = float(re.findall(r"y1=([0-9.]+) y2=[0-9.]+ class=zero", page)[0])
    assert all(height > zero for height in points(page, "difference"))
    assert all(height < zero for height in points(page, "uss"))


def test_a_wide_interval_is_drawn_as_wide_as_it_is(found: results.Results) -> None:
    """Its ends are beyond all totals, above and below."""
    wide = measured(PROXIES, [mb + more for mb, more in zip(PLAIN, (0, 9, -9, 9, -9, 9), strict=True)], PLAIN)
    page = html.page(msgspec.structs.replace(found, density=(wide,)))
    first, high, low = corners(page, "difference")
    zero = float(re.findall(r"y1=([0-9.]+) y2=[0-9.]+ class=zero", page)[0])
    steps, total = len(PROXIES) - 1, judge.by_pss(wide)["difference"][0]
    slope = judge.judge(wide).pss.difference
    assert slope.low < 0 < slope.high
    scale = (zero - first) / total
    assert zero - high == pytest.approx(scale * (total + steps * slope.high), rel=0.05)
    assert zero - low == pytest.approx(scale * (total + steps * slope.low), rel=0.05)
    assert 0 < high < low < 220


def corners(page: str, css: str) -> list[float]:
    """Heights of an interval's corners: where it begins, its upper and its lower end."""
    (path,) = re.findall(rf'<g class=d-{css}>.*?<path d="M([^"]*)Z" class=cone', page, re.DOTALL)
    return [float(point.split()[1]) for point in path.split("L")]


def test_who_shares_the_proxys_text_is_said(found: results.Results) -> None:
    assert "run it alone" in html.page(found)


def test_the_summary_has_the_same_rows(found: results.Results) -> None:
    text = markdown.markdown(found)
    for cells in rows(judge.judge(GOOD)):
        assert f"| {' | '.join(cells)} |" in text


def test_what_is_torn_or_too_little_is_told_and_not_drawn(tmp_path: Path) -> None:
    write(tmp_path / "test_a", msgspec.structs.replace(GOOD, steps=GOOD.steps[:2]))
    (tmp_path / "test_b").mkdir()
    (tmp_path / "test_b" / FILE).write_text("{")
    found = runs.mixed(tmp_path)
    assert len(found.density) == 1
    assert f"{FILE} can't be read" in " ".join(found.unreadable)
    assert density(found) is None
