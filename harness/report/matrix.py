"""Claims × links: what the run showed of each sentence of the page that the project tests."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report.markup import Markup, el, join
from harness.report.rest import ident
from harness.report.results import Case, CaseOutcome, Item, LeftOut, Results, Shown, counted
from harness.report.scenarios import anchor
from harness.report.section import Section, css, unusual
from harness.report.words import NO_LINK, SIGNS, WORST_FIRST, number, plain, seen

_LONGEST = 70
"""Characters that one link's narrow column shows of what was seen; all of it is where the cell leads to."""

_LEFT_OUT = "–"
_MEANS = {CaseOutcome.PASSED: "passed: as expected"}

_NUMBER = re.compile(r"(?<=[a-z]) (?=\d+\b(?![.\d]* ×))|(?<=\d) (?=×)")
"""The space between a number and the word that it belongs to, or the sign."""


def matrix(results: Results) -> Section:
    """A row for every claim, below it one for each of its scenarios and tests; a column for each link."""
    head = el("tr", el("th", "claim"), *(el("th", _called(link)) for link in results.columns))
    rows: list[Markup] = []
    for claim in Claim:
        tests = [(case, shown) for case, shown in results.shown if shown.claim is claim]
        items = [item for item in results.items if item.subject.claim is claim]
        if items or tests or claim is not Claim.OTHER:
            out = [one for one in results.left_out if one.claim is claim]
            rows += _rows(claim, items, tests, results.columns, out)
    table = el("table", el("thead", head), el("tbody", *rows), class_="matrix")
    return Section("claims", "Claims and links", el("div", el("p", _about(results), class_="note"), table))


def _about(results: Results) -> str:
    """What the rows and signs mean; of the signs those that occur."""
    signs = [
        f"{SIGNS[word]} {_MEANS.get(word, word)}" for word in reversed(WORST_FIRST) if results.counts[word]
    ]
    signs += ["· not on this link", *([f"{_LEFT_OUT} left out of this run"] if results.left_out else [])]
    return (
        "Below each claim's name stands what the page “Kata Containers and VSOCKs” says, and what became of "
        "that by all that this project found; then each scenario and test that tries it: what was seen on "
        "each link, which leads to what was expected and to each client's life. What passed is as this "
        f"project expects it, which is not always as the page says. {', '.join(signs)}."
    )


def _rows(
    claim: Claim,
    items: Sequence[Item],
    tests: Sequence[tuple[Case, Shown]],
    links: Sequence[Link | None],
    left_out: Sequence[LeftOut],
) -> list[Markup]:
    answer = el("span", claim.answer, class_="answer") if claim.answer else None
    name = el("th", el("strong", claim), el("span", claim.sentence), answer)
    rows = [el("tr", name, *_summed(claim, items, tests, links, left_out), class_="claim")]
    rows += [_test(case, shown, links) for case, shown in tests]
    for scenario in dict.fromkeys(item.subject.scenario for item in items):
        own: dict[Link | None, Item] = {
            item.subject.link: item for item in items if item.subject.scenario == scenario
        }
        out = {one.link for one in left_out if one.subject and one.name == scenario}
        cells = [
            _cell(own[link]) if link in own else _empty(link, link in out, "·" if link else "")
            for link in links
        ]
        rows.append(el("tr", el("th", scenario), *cells))
    ran = {item.subject.scenario for item in items} | {_bare(case.name) for case, _ in tests}
    if wholly := {_bare(one.name) for one in left_out} - ran:
        rows.append(
            el(
                "tr",
                el("th", "left out of this run"),
                el("td", ", ".join(sorted(wholly)), colspan=len(links), class_="none"),
            )
        )
    return rows


def _summed(
    claim: Claim,
    items: Sequence[Item],
    tests: Sequence[tuple[Case, Shown]],
    links: Sequence[Link | None],
    left_out: Sequence[LeftOut],
) -> list[Markup]:
    """A claim's own cells: on each link how many ended in which way; one where none is about a link."""
    cases: list[tuple[Case, Link | None, str]] = [
        (item.case, item.subject.link, anchor(item.subject)) for item in items
    ]
    cases += [(case, shown.link, ident(case)) for case, shown in tests]
    out = {one.link for one in left_out}
    if not cases:
        nothing = "left out of this run" if left_out else "no scenario of this claim in this run"
        nothing += f"; {claim.elsewhere} shows it" if claim.elsewhere else ""
        return [el("td", nothing, colspan=len(links), class_="none")]
    if all(on is None for _, on, _ in cases) and not out.intersection(links):
        return [_counts([(case, to) for case, _, to in cases], None, len(links))]
    return [
        _counts([(case, to) for case, on, to in cases if on is link], link)
        if any(on is link for _, on, _ in cases)
        else _empty(link, link in out)
        for link in links
    ]


def _called(link: Link | None) -> str:
    return link or NO_LINK


def _bare(name: str) -> str:
    """Of a test: without its parameters."""
    return name.partition("[")[0]


def _test(case: Case, shown: Shown, links: Sequence[Link | None]) -> Markup:
    """A test that is no scenario's: in its link's column; over all if it has none, or more to say."""
    text = f"{case.outcome}: {shown.seen}" if shown.seen else case.outcome
    said = el("a", text, href=f"#{ident(case)}")
    sign, own = el("b", SIGNS[case.outcome]), unusual(case.outcome)
    heading = el("th", join(re.split(r"(?<=::)", case.name), el("wbr")))
    if shown.link is None or len(text) > _LONGEST:
        of = f"{shown.link}: " if shown.link else ""
        return el("tr", heading, el("td", sign, f" {of}", said, colspan=len(links), class_=own))
    cells = [
        el("td", sign, " ", said, data_link=link, class_=own)
        if link is shown.link
        else _empty(link, sign="·" if link else "")
        for link in links
    ]
    return el("tr", heading, *cells)


def _counts(cases: Sequence[tuple[Case, str]], link: Link | None, wide: int | None = None) -> Markup:
    """The claim on one link or without any: how many ended in which way; leads to the one to look at first.

    :param cases: each with its id in the page; at least one.
    :param wide: columns.
    """
    counts = counted(case for case, _ in cases)
    words = [
        el("span", f"{SIGNS[word]} {number(counts[word], word)}", class_=css(word) if place else None)
        for place, word in enumerate(word for word in WORST_FIRST if counts[word])
    ]
    first, to = min(cases, key=lambda one: WORST_FIRST.index(one[0].outcome))
    leading = el("a", *words, href=f"#{to}")
    return el(
        "td", leading, colspan=wide, data_link=None if wide else _called(link), class_=unusual(first.outcome)
    )


def _cell(item: Item) -> Markup:
    said = plain(seen(item.plan, item.verdict, brief=True)) if item.verdict else ""
    unseen = said and item.outcome is not CaseOutcome.PASSED
    outcome = el("span", f"{item.outcome}: ", class_="unseen") if unseen else None
    leading = el("a", outcome, _brief(said) or item.outcome, href=f"#{anchor(item.subject)}")
    return el(
        "td",
        el("b", SIGNS[item.outcome]),
        " ",
        leading,
        data_link=item.subject.link,
        class_=unusual(item.outcome),
    )


def _brief(said: str) -> str:
    """Cut between words, and no number on another line than its word."""
    return _NUMBER.sub("\u00a0", textwrap.shorten(said, _LONGEST, placeholder=" …"))


def _empty(link: Link | None, left_out: bool = False, sign: str = "·") -> Markup:
    return el("td", _LEFT_OUT if left_out else sign, class_="none", data_link=left_out and _called(link))
