"""How long each phase took, as a table with bars."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from harness.report.markup import Markup, el
from harness.report.results import Item, Results
from harness.report.scenarios import anchor
from harness.report.section import Section

_CLIENTS = "clients"
_END = "end"
_KINDS = 7
"""Kinds of bar that the style knows."""


class _Times(msgspec.Struct, frozen=True):
    """Seconds by phase, in order."""

    item: Item
    phases: dict[str, float]

    @property
    def whole(self) -> float:
        return sum(self.phases.values())


def times(results: Results) -> Section | None:
    """A row for each item whose pod came up: the pod's phases, its clients, its end."""
    rows = [_Times(item, found) for item in results.items if (found := _phases(item))]
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row.phases))
    names.sort(key=lambda name: {_CLIENTS: 1, _END: 2}.get(name, 0))
    longest = max(row.whole for row in rows)
    head = el(
        "tr",
        *(el("th", name) for name in ("scenario and link", "all")),
        el("th", el("span", "as a bar", class_="unseen"), class_="bars"),
        *(_heading(name, place) for place, name in enumerate(names)),
    )
    body = [_row(row, names, longest) for row in rows]
    foot = el(
        "tr",
        el("th", "median"),
        el("td", _shown(statistics.median(row.whole for row in rows))),
        el("td"),
        *(el("td", _median(rows, name)) for name in names),
    )
    table = el("table", el("thead", head), el("tbody", *body), el("tfoot", foot), class_="times")
    about = el(
        "p",
        "Seconds; a dot where there was nothing to wait for.",
        class_="note",
    )
    wide = el("div", table, class_="wide", tabindex=0, role="region", aria_label="Times by phase")
    return Section("times", "Times by phase", el("div", about, wide))


def _phases(item: Item) -> dict[str, float]:
    if item.facts is None:
        return {}
    found = dict(item.facts.seconds)
    for name, phase in ((_CLIENTS, "call"), (_END, "teardown")):
        if phase in item.case.seconds:
            found[name] = item.case.seconds[phase]
    return found


def _heading(name: str, place: int) -> Markup:
    sample = el("svg", el("rect", width=8, class_=_kind(place)), aria_hidden="true")
    return el("th", sample, f" {name}")


def _row(row: _Times, names: Sequence[str], longest: float) -> Markup:
    bars, before = [], 0.0
    for place, name in enumerate(names):
        share = 100 * row.phases.get(name, 0) / longest if longest else 0
        if share >= 0.1:
            bars.append(el("rect", x=f"{before:.1f}%", width=f"{share:.1f}%", class_=_kind(place)))
        before += share
    subject = row.item.subject
    return el(
        "tr",
        el("th", el("a", subject.scenario, href=f"#{anchor(subject)}"), f" {subject.link}"),
        el("td", _shown(row.whole)),
        el("td", el("svg", *bars, aria_hidden="true")),
        *(el("td", _shown(row.phases.get(name))) for name in names),
    )


def _median(rows: Sequence[_Times], name: str) -> str:
    known = [row.phases[name] for row in rows if name in row.phases]
    return _shown(statistics.median(known))


def _shown(value: float | None) -> str:
    return "·" if value is None or value < 0.005 else f"{value:.2f}"


def _kind(place: int) -> str:
    return f"k{place % _KINDS}"
