"""How long round trips took, each group's beside that of another that had the link without the load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from harness.judge.paces import Pace, paces
from harness.model.link import Link
from harness.model.trips import quantile
from harness.model.verdict import Slowed
from harness.report.markup import Markup, el, join
from harness.report.results import Item, Results
from harness.report.scenarios import anchor
from harness.report.section import Section
from harness.report.words import size

_MIDDLE = 11
"""Pixels from the top of a row, whose height the style knows."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A group on a link: its pace, and how much slower it was than `slowed.against`, if that was asked."""

    item: Item
    pace: Pace
    slowed: Slowed | None
    base: bool  # others are compared with it

    @property
    def link(self) -> Link:
        """The item's."""
        return self.item.subject.link

    @property
    def p50(self) -> float | None:
        """Seconds that half of the round trips did not exceed; None without any."""
        return quantile(self.pace.trips, 0.5) if self.pace.trips else None

    @property
    def p99(self) -> float | None:
        """Seconds that 99 of 100 round trips did not exceed; of fewer, the longest."""
        return quantile(self.pace.trips, 0.99) if self.pace.trips else None

    @property
    def cells(self) -> tuple[str, ...]:
        """As a table says it, under `HEADINGS`."""
        times = self.slowed.times if self.slowed else None
        return (
            str(len(self.pace.trips) or "·"),
            _shown(self.p50),
            _shown(self.p99),
            f"{size(round(self.pace.rate))}/s" if self.pace.rates else "·",
            "·" if times is None or self.slowed is None else f"{times:.3g} × {self.slowed.against}",
        )


HEADINGS = ("round trips", "p50", "p99", "throughput", "as slow as")
"""Of the columns of numbers."""


def measured(results: Results) -> dict[str, list[Measured]]:
    """By scenario, of those that compare groups: every group of which something is known, on each link."""
    found: dict[str, list[Measured]] = {}
    for item in results.items:
        if item.plan is None or not item.plan.expect.slowdown:
            continue
        slowed = {one.group: one for one in item.verdict.slowed} if item.verdict else {}
        bases = {one.against for one in item.plan.expect.slowdown.values()}
        for pace in paces(item.plan, item.trace):
            one = Measured(
                item=item, pace=pace, slowed=slowed.get(pace.group), base=pace.group in bases - slowed.keys()
            )
            found.setdefault(item.subject.scenario, []).append(one)
    return found


def latency(results: Results) -> Section | None:
    """A drawing and a table for each scenario that compares groups."""
    parts = [_scenario(rows) for rows in measured(results).values()]
    if not parts:
        return None
    about = el(
        "p",
        "Round trips of one run, on a scale that multiplies: from p50, the time that half of them did not ",
        "exceed, to p99. What was loaded stands below what it is compared with (hollow). ",
        "Times depend on the machine; the ratio says what the others' load did.",
        class_="note",
    )
    return Section("latency", "Latency beside others", join([about, *parts]))


def _scenario(rows: Sequence[Measured]) -> Markup:
    first = rows[0].item
    return el(
        "article",
        el("h3", first.title, " ", el("code", first.subject.scenario)),
        _drawing(rows),
        _table(rows),
        class_="latency",
    )


def _drawing(rows: Sequence[Measured]) -> Markup | None:
    times = [time for row in rows for time in (row.p50, row.p99) if time]
    if not times:
        return None
    scale = _Scale(min(times), max(times))
    lines: list[Markup] = [_axis({scale.place(tick): _shown(tick) for tick in scale.ticks})]
    for link in dict.fromkeys(row.link for row in rows):
        lines.append(el("h4", link))
        lines += [_line(row, scale) for row in rows if row.link is link and row.pace.trips]
    says = "Round trips by link and group; the table below says the same."
    return el("div", *lines, class_="rows trips", role="img", aria_label=says)


def _axis(labels: dict[str, str]) -> Markup:
    """What the rows have behind them: by place in percent, a number and a line."""
    return el("svg", *(join([el("rect", x=x), el("text", text, x=x)]) for x, text in labels.items()))


class _Scale:
    """Logarithmic, between the round numbers around `least` and `most`, in seconds."""

    def __init__(self, least: float, most: float) -> None:
        below = [step for step in _steps() if step <= least]
        above = [step for step in _steps() if step >= most]
        self._low = below[-1] if below else least
        high = above[0] if above else most
        self._width = math.log(high / self._low) or 1.0
        within = [step for step in _steps() if self._low <= step <= high]
        self.ticks = within if len(within) < 8 else [step for step in within if _is_decade(step)]

    def place(self, seconds: float) -> str:
        """Where it is; what is less than `least` is there, too."""
        return f"{100 * math.log(max(seconds, self._low) / self._low) / self._width:.2f}%"


def _steps() -> Iterator[float]:
    return (base * 10.0**power for power in range(-6, 4) for base in (1, 2, 5))


def _is_decade(step: float) -> bool:
    return abs(math.log10(step) - round(math.log10(step))) < 1e-6


def _line(row: Measured, scale: _Scale) -> Markup:
    """From p50 to p99. Fill tells a base from what was loaded; colour only helps."""
    p50, p99 = row.p50 or 0.0, row.p99 or 0.0
    kind = "base" if row.base else "loaded"
    drawn = el(
        "svg",
        el("line", x1=scale.place(p50), x2=scale.place(p99), y1=_MIDDLE, y2=_MIDDLE, class_="reach"),
        el("circle", cx=scale.place(p50), cy=_MIDDLE, r=5, class_="p50"),
        el("line", x1=scale.place(p99), x2=scale.place(p99), y1=_MIDDLE - 6, y2=_MIDDLE + 6, class_="p99"),
    )
    said = f"{_shown(p50)} – {_shown(p99)}"
    return el(
        "p",
        el("span", row.pace.group),
        drawn,
        el("span", said),
        class_=kind,
    )


def _table(rows: Sequence[Measured]) -> Markup:
    head = el(
        "tr",
        el("th", "link", scope="col"),
        el("th", "group", scope="col"),
        *(el("th", name, scope="col", class_="n") for name in HEADINGS),
    )
    body = [
        el(
            "tr",
            el("th", el("a", row.link, href=f"#{anchor(row.item.subject)}"), scope="row"),
            el("td", row.pace.group),
            *(el("td", cell, class_="n") for cell in row.cells),
        )
        for row in rows
    ]
    table = el("table", el("thead", head), el("tbody", *body), class_="numbers")
    return el("div", table, class_="wide", tabindex=0, role="region", aria_label="Round trips by group")


def _shown(seconds: float | None) -> str:
    """Three digits: ``0.112 ms``, ``89 ms``, ``1.31 s``."""
    if seconds is None:
        return "·"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{seconds * 1000:.3g} ms"
