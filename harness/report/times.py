"""Where the time went: each phase's figures, and a row with a bar for each of the items that took longest."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from harness.report.markup import Markup, el
from harness.report.phases import CLIENTS, END, HEADINGS, Phases, phases, shown
from harness.report.results import Results, Subject
from harness.report.scenarios import anchor
from harness.report.section import Section

_KINDS = 10
"""Colours of bars that the style knows."""

_MOST = 25
"""Items that have a row; each has its own times beside its evidence."""

_WIDTH = 300
"""Pixels of the longest bar; the style has them, too."""


def times(results: Results) -> Section | None:
    """Of the items whose pod came up: figures of each phase, and the longest with what they were made of."""
    rows = {item.subject: found for item in results.items if (found := phases(item))}
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows.values() for name in row.seconds))
    names.sort(key=lambda name: {CLIENTS: 1, END: 2}.get(name, 0))
    longest = sorted(rows.items(), key=lambda row: -row[1].whole)[:_MOST]
    bars = [_bar(row, names, longest[0][1].whole) for _, row in longest]
    drawn = dict.fromkeys(name for name in (CLIENTS, *names) if any(name in bar for bar in bars))
    kinds = {name: f"k{place % _KINDS}" for place, name in enumerate(drawn)}
    lines = [_row(subject, row, bar, kinds) for (subject, row), bar in zip(longest, bars, strict=True)]
    head = el(
        "tr",
        *(el("th", name) for name in ("scenario and link", *HEADINGS)),
        el("th", el("span", "as a bar", class_="unseen")),
    )
    table = el("table", el("thead", head), el("tbody", *lines), class_="times")
    about = (
        "Seconds; a dot where there was nothing to wait for. All phases but the clients' and the end are the "
        "pod's. Of each phase, the median and the longest:"
    )
    left = f"The {len(longest)} of {len(rows)} that took longest; each has its times beside its evidence."
    body = el(
        "div",
        el("p", about, class_="note"),
        el("ul", *(_phase(rows.values(), name, kinds.get(name)) for name in names), class_="legend"),
        el("p", left, class_="note") if len(longest) < len(rows) else None,
        el("div", table, class_="wide", tabindex=0, role="region", aria_label="Times by phase"),
    )
    return Section("times", "Times by phase", body)


def _phase(rows: Iterable[Phases], name: str, kind: str | None) -> Markup:
    """What its colour is, if it is to be seen in a bar, and its figures of those items that had it."""
    known = [row.seconds[name] for row in rows if name in row.seconds]
    sample = el("svg", el("rect", width=12, class_=kind), aria_hidden="true") if kind else None
    return el("li", sample, f"{name} {shown(statistics.median(known))}, {shown(max(known))}")


def _bar(row: Phases, names: Sequence[str], longest: float) -> dict[str, tuple[int, int]]:
    """Where each phase begins that is to be seen, and its width, in pixels."""
    found, before = {}, 0.0
    for name in names:
        after = before + (_WIDTH * row.seconds.get(name, 0) / longest if longest else 0)
        if width := round(after) - round(before):
            found[name] = round(before), width
        before = after
    return found


def _row(
    subject: Subject, row: Phases, bar: Mapping[str, tuple[int, int]], kinds: Mapping[str, str]
) -> Markup:
    parts = (el("path", class_=kinds[name], d=f"M{x},5h{width}") for name, (x, width) in bar.items())
    return el(
        "tr",
        el("th", el("a", subject.scenario, href=f"#{anchor(subject)}"), f" {subject.link}"),
        *(el("td", cell) for cell in row.cells),
        el("td", el("svg", *parts)),
    )
