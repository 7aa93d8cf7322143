"""The two backends of vsock side by side: where they differ, it is a finding about one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from harness.model.link import Link
from harness.model.verdict import Verdict
from harness.report.across import Fact, Told, both, facts
from harness.report.markup import Markup, el
from harness.report.results import CaseOutcome, Item, Results
from harness.report.section import Section
from harness.report.words import tallied

PAIR = (Link.VSOCK, Link.HYBRID_VSOCK)
HEADINGS = tuple(f"{link.backend} ({link})" for link in PAIR)
TITLE = "Backends of vsock"
OPEN = "What scenarios leave open, and was not the same on both"

NOBODY = "·"
"""In the place of what was seen by a group that was not there."""

ALL = "all"
"""In the place of a group's name."""

_RAN = (CaseOutcome.PASSED, CaseOutcome.FAILED)


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
    """One scenario or test on both. `left_open` is what was not the same, and may be so on each; a group of
    which that is all is not in `lines`."""

    name: str
    lines: tuple[Line, ...]
    left_open: tuple[Line, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anybody did not see the same, where that is not left open."""
        return any(line.differs for line in self.lines)


_Said: TypeAlias = dict[str, dict[str, Told]]
"""What each group saw, by its name: facts and counts, by theirs."""


def compared(results: Results) -> list[Compared]:
    """What ran to an end on both backends in this run; what differs comes first."""
    found = dict[str, dict[Link, _Said]]()
    for name, link, said in [*_scenarios(results), *_tests(results)]:
        found.setdefault(name, {})[link] = said
    pairs = [
        _compared(name, said[PAIR[0]], said[PAIR[1]])
        for name, said in found.items()
        if all(link in said for link in PAIR)
    ]
    return sorted(pairs, key=lambda one: not one.differs)


def backends(results: Results) -> Section | None:
    """What differs of each that ran on both, and who saw the same; None where none did."""
    found = compared(results)
    if not found:
        return None
    alike = ", ".join(row.name for row in found if not row.differs and not row.left_open)
    some = any(row.differs or row.left_open for row in found)
    body = el(
        "div",
        el("p", counted(found), class_="note"),
        _table(rows(row.name, row.lines) for row in found if row.differs),
        *_open([rows(row.name, row.left_open) for row in found if row.left_open]),
        el("p", "The same on both: ", alike, ".", class_="note") if alike and some else "",
    )
    return Section("backends", TITLE, body)


def counted(found: Sequence[Compared]) -> str:
    """How many ran on both, of how many somebody did not see the same, and of how many that is left open."""
    count = sum(row.differs for row in found)
    loose = sum(bool(row.left_open) for row in found if not row.differs)
    if not count and not loose:
        return f"{len(found)} saw the same."
    more = f", {loose} more only in what scenarios leave open" if loose else ""
    return f"{len(found)} ran on both; {count} saw something else{more}."


def _open(found: Sequence[Markup]) -> tuple[Markup | str, ...]:
    return (el("h3", OPEN), _table(found)) if found else ()


def _table(bodies: Iterable[Markup]) -> Markup | str:
    """Nothing where there is no body."""
    inner = list(bodies)
    head = el("tr", *(el("th", name, scope="col") for name in ("scenario or test", *HEADINGS)))
    return el("table", el("thead", head), *inner, class_="backends") if inner else ""


def rows(name: str, lines: Iterable[Line]) -> Markup:
    """The scenario's name, a row for each group that did not see the same, one for those that did."""
    lines = list(lines)
    found = [el("tr", el("th", name, scope="rowgroup", colspan="3"))]
    for line in lines:
        if line.differs:
            cells = (_cell(line.one, line.other, ""), _cell(line.other, line.one, "≠\u00a0"))
            found.append(el("tr", el("th", line.part or ALL, scope="row"), *cells))
    if alike := ", ".join(line.part for line in lines if line.part and not line.differs):
        found.append(el("tr", el("td", f"alike: {alike}", class_="note", colspan="3")))
    return el("tbody", *found)


def _cell(said: tuple[str, ...], there: tuple[str, ...], sign: str) -> Markup:
    """What was seen here; what was not seen there stands out."""
    words: list[str | Markup] = []
    for text in said or (NOBODY,):
        words += [", ", text if text in there or not said else el("strong", sign, text)]
    return el("td", *words[1:])


def _compared(name: str, one: _Said, other: _Said) -> Compared:
    lines, left = [], []
    for part in dict.fromkeys([*one, *other]):
        here, there = one.get(part, {}), other.get(part, {})
        loose = {fact for fact in [*here, *there] if _is_open(fact, here.get(fact), there.get(fact))}
        line = Line(part, _words(here, loose), _words(there, loose))
        if line.differs or (line.one and not loose):
            lines.append(line)
        if loose:
            rest = {*here, *there} - loose
            left.append(Line(part, _words(here, rest), _words(there, rest)))
    return Compared(name, tuple(lines), tuple(left))


def _is_open(fact: str, one: Told | None, other: Told | None) -> bool:
    """Whether it was not the same, and the scenario leaves it open on both; to be silent, if on that one."""
    told = {str(link): said for link, said in zip(PAIR, (one, other), strict=True) if said}
    found = Fact(fact, told)
    silent = len(told) == 1 and all(said.wanted is None for said in told.values())
    return found.open and (silent or not found.same)


def _words(said: dict[str, Told], without: Collection[str]) -> tuple[str, ...]:
    return tuple(f"{fact} {told}".strip() for fact, told in said.items() if fact not in without)


def _scenarios(results: Results) -> Iterator[tuple[str, Link, _Said]]:
    for item in results.items:
        if item.subject.link in PAIR and item.verdict and item.outcome in _RAN:
            yield item.subject.scenario, item.subject.link, _said(item, item.verdict)


def _said(item: Item, verdict: Verdict) -> _Said:
    """What was seen, whatever was expected: what is compared here are two links. Times always differ."""
    found: _Said = {}
    for part in tallied(verdict):
        counts = (count.text.partition(" ") for count in part.counts)
        found[part.name] = {word: _counted(count) for word, _, count in counts}
    for group, fact, told in facts(item):
        here = found.setdefault(group, {})
        here[fact] = both(here.get(fact), told)
    return found


def _counted(value: str) -> Told:
    """What no scenario leaves open."""
    return Told(frozenset({value}), value)


def _tests(results: Results) -> Iterator[tuple[str, Link, _Said]]:
    """Those of which one is about each link, as their names say: ``test_x[vsock]``."""
    for case, shown in results.shown:
        if shown.link in PAIR and shown.seen and case.outcome in _RAN:
            yield case.name.replace(f"[{shown.link}]", ""), shown.link, {"": {"": _counted(shown.seen)}}
