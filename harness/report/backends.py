"""The two backends of vsock side by side: where they differ, it is a finding about one of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from harness.model.link import Link
from harness.report.markup import Markup, el
from harness.report.results import CaseOutcome, Results
from harness.report.section import Section
from harness.report.words import Part, seen

PAIR = (Link.VSOCK, Link.HYBRID_VSOCK)


class Compared(msgspec.Struct, frozen=True):
    """One scenario or test on both: what was seen on each, in words."""

    name: str
    one: str
    other: str

    @property
    def differs(self) -> bool:
        """Whether the same was not seen."""
        return self.one != self.other


def compared(results: Results) -> list[Compared]:
    """What ran to an end on both backends in this run; what differs comes first."""
    found = dict[str, dict[Link, str]]()
    for name, link, said in [*_scenarios(results), *_tests(results)]:
        found.setdefault(name, {})[link] = said
    both = [
        Compared(name, said[PAIR[0]], said[PAIR[1]])
        for name, said in found.items()
        if all(link in said for link in PAIR)
    ]
    return sorted(both, key=lambda one: not one.differs)


def backends(results: Results) -> Section | None:
    """A row for each that ran on both; None where none did."""
    rows = compared(results)
    if not rows:
        return None
    count = sum(row.differs for row in rows)
    note = f"{len(rows)} ran on both; {count} saw something else." if count else f"{len(rows)} saw the same."
    head = el("tr", el("th", "scenario or test", scope="col"), *(_heading(link) for link in PAIR))
    table = el("table", el("thead", head), el("tbody", *(_row(row) for row in rows)), class_="backends")
    body = el("div", el("p", note, class_="note"), el("div", table, class_="wide"))
    return Section("backends", "Backends of vsock", body)


def _heading(link: Link) -> Markup:
    return el("th", f"{link.backend} ({link})", scope="col")


def _row(row: Compared) -> Markup:
    other = el("strong", "≠ ", row.other, class_="off") if row.differs else row.other
    return el("tr", el("th", row.name, scope="row"), el("td", row.one), el("td", other))


def _scenarios(results: Results) -> Iterator[tuple[str, Link, str]]:
    for item in results.items:
        if item.subject.link in PAIR and item.verdict:
            yield (
                item.subject.scenario,
                item.subject.link,
                "; ".join(map(_said, seen(item.plan, item.verdict))),
            )


def _said(part: Part) -> str:
    """What was seen, whatever was expected: what is compared here are two links."""
    return (f"{part.name}: " if part.name else "") + ", ".join(count.text for count in part.counts)


def _tests(results: Results) -> Iterator[tuple[str, Link, str]]:
    """Those of which one is about each link, as their names say: ``test_x[vsock]``."""
    ran = (CaseOutcome.PASSED, CaseOutcome.FAILED)
    for case, shown in results.shown:
        if shown.link in PAIR and shown.seen and case.outcome in ran:
            yield case.name.replace(f"[{shown.link}]", ""), shown.link, shown.seen
