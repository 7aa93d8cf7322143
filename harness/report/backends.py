"""The two backends of vsock side by side: where they differ, it is a finding about one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from harness.model.link import Link
from harness.report.markup import Markup, el
from harness.report.results import CaseOutcome, Results
from harness.report.section import Section
from harness.report.words import Part, seen

PAIR = (Link.VSOCK, Link.HYBRID_VSOCK)
HEADINGS = tuple(f"{link.backend} ({link})" for link in PAIR)
TITLE = "Backends of vsock"

NOBODY = "·"
"""In the place of what was seen by a group that was not there."""

ALL = "all"
"""In the place of a group's name."""


class Line(msgspec.Struct, frozen=True):
    """What one group of clients saw on each, count by count; `part` is its name, "" of all together."""

    part: str
    one: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the same was not seen."""
        return self.one != self.other

    @property
    def apart(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What was seen on the one and not on the other, and the other way round."""
        return (
            tuple(text for text in self.one if text not in self.other),
            tuple(text for text in self.other if text not in self.one),
        )


class Compared(msgspec.Struct, frozen=True):
    """One scenario or test on both."""

    name: str
    lines: tuple[Line, ...]

    @property
    def differs(self) -> bool:
        """Whether anybody did not see the same."""
        return any(line.differs for line in self.lines)


_Said: TypeAlias = dict[str, tuple[str, ...]]
"""What each group saw, by its name."""


def compared(results: Results) -> list[Compared]:
    """What ran to an end on both backends in this run; what differs comes first."""
    found = dict[str, dict[Link, _Said]]()
    for name, link, said in [*_scenarios(results), *_tests(results)]:
        found.setdefault(name, {})[link] = said
    both = [
        Compared(name, tuple(_lines(said[PAIR[0]], said[PAIR[1]])))
        for name, said in found.items()
        if all(link in said for link in PAIR)
    ]
    return sorted(both, key=lambda one: not one.differs)


def backends(results: Results) -> Section | None:
    """What differs of each that ran on both, and who saw the same; None where none did."""
    found = compared(results)
    if not found:
        return None
    count = sum(row.differs for row in found)
    head = el("tr", *(el("th", name, scope="col") for name in ("scenario or test", *HEADINGS)))
    table = el("table", el("thead", head), *(rows(row) for row in found if row.differs), class_="backends")
    alike = ", ".join(row.name for row in found if not row.differs)
    rest = el("p", "The same on both: ", alike, ".", class_="note") if alike and count else ""
    body = el("div", el("p", counted(found), class_="note"), table if count else "", rest)
    return Section("backends", TITLE, body)


def counted(found: Sequence[Compared]) -> str:
    """How many ran on both, and of how many somebody did not see the same."""
    count = sum(row.differs for row in found)
    return (
        f"{len(found)} ran on both; {count} saw something else." if count else f"{len(found)} saw the same."
    )


def _lines(one: _Said, other: _Said) -> Iterator[Line]:
    for part in dict.fromkeys([*one, *other]):
        yield Line(part, one.get(part, ()), other.get(part, ()))


def rows(row: Compared) -> Markup:
    """The scenario's name, a row for each group that did not see the same, one for those that did."""
    lines = [el("tr", el("th", row.name, scope="rowgroup", colspan="3"))]
    for line in row.lines:
        if line.differs:
            cells = (_cell(line.one, line.other, ""), _cell(line.other, line.one, "≠\u00a0"))
            lines.append(el("tr", el("th", line.part or ALL, scope="row"), *cells))
    if alike := ", ".join(line.part for line in row.lines if line.part and not line.differs):
        lines.append(el("tr", el("td", f"alike: {alike}", class_="note", colspan="3")))
    return el("tbody", *lines)


def _cell(said: tuple[str, ...], there: tuple[str, ...], sign: str) -> Markup:
    """What was seen here; what was not seen there stands out."""
    words: list[str | Markup] = []
    for text in said or (NOBODY,):
        words += [", ", text if text in there or not said else el("strong", sign, text)]
    return el("td", *words[1:])


def _scenarios(results: Results) -> Iterator[tuple[str, Link, _Said]]:
    for item in results.items:
        if item.subject.link in PAIR and item.verdict:
            yield item.subject.scenario, item.subject.link, _said(seen(item.plan, item.verdict))


def _said(parts: Iterable[Part]) -> _Said:
    """What was seen, whatever was expected: what is compared here are two links. Times always differ."""
    found: _Said = {}
    for part in parts:
        if words := tuple(count.text for count in part.counts if not count.measured):
            found[part.name] = (*found.get(part.name, ()), *words)
    return found


def _tests(results: Results) -> Iterator[tuple[str, Link, _Said]]:
    """Those of which one is about each link, as their names say: ``test_x[vsock]``."""
    ran = (CaseOutcome.PASSED, CaseOutcome.FAILED)
    for case, shown in results.shown:
        if shown.link in PAIR and shown.seen and case.outcome in ran:
            yield case.name.replace(f"[{shown.link}]", ""), shown.link, {"": (shown.seen,)}
