"""A run in a few lines of Markdown, for a CI's job page: counts, host, claims × links, what did not pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.model.claims import Claim
from harness.report import backends, density, whole
from harness.report.corrected import corrected
from harness.report.deaths import COLUMNS, Death, deaths, kernels, who
from harness.report.latency import HEADINGS, measured
from harness.report.markup import shown
from harness.report.overview import facts, heading, warnings, whole_outcome
from harness.report.results import Case, CaseOutcome, Results, counted
from harness.report.words import NO_LINK, WORST_FIRST, cut, stated

NAME = "summary.md"

MOST = 20
"""Lines of one kind that are written; further ones are counted."""

GROUPS = 2 * MOST
"""Rows of a table of groups."""

_SIGNS = {
    CaseOutcome.PASSED: "✅",
    CaseOutcome.FAILED: "❌",
    CaseOutcome.ERROR: "💥",
    CaseOutcome.SKIPPED: "⏭️",
    CaseOutcome.NOT_RUN: "⚪",
}
_LONGEST = 300
"""Characters of one difference or reason."""

_WHOLE = 3000
"""Characters of one sentence about the page's claim."""

_HOST_LINES = ("host", "lab", "slowness", "duration", "harness")


def markdown(results: Results) -> str:
    """The whole text. Pure."""
    outcome = whole_outcome(results)
    lines = [
        f"## {_SIGNS[outcome]} {heading(results)} ({code(results.name)})",
        "",
        "; ".join(filter(None, [stated(results.counts), code(results.choice) if results.choice else ""])),
        "",
    ]
    known = [(name, " ".join(said)) for name, said in facts(results) if name in _HOST_LINES]
    lines += [f"{name}: {code(said)}  " for name, said in known]
    lines += [f"**{code(line)}**  " for line in warnings(results)]
    lines += ["", *_table(results), *_unpassed(results), *_latency(results)]
    lines += ["", *_deaths(results), *_backends(results), *_density(results)]
    lines += ["", "More: `report.html` in the results folder."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def write(results: Results, folder: Path) -> Path:
    """Write the summary into `folder`; where it is.

    :raise OSError: when that fails.
    """
    path = folder / NAME
    whole.write(path, markdown(results).encode())
    return path


def code(text: str, most: int = _LONGEST) -> str:
    """One line of `text` as it is: in a code span, whose fence is longer than any run of backticks in it."""
    line = " ".join(shown(cut(text, most)).split()) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _table(results: Results) -> list[str]:
    """A row for each claim that has scenarios here, then the names of the others."""
    if not results.items and not results.shown:
        return []
    head = ["claim", *(link or NO_LINK for link in results.columns), "found by this project"]
    lines = [_row(*head), _row(*["---"] * len(head))]
    without: list[str] = []
    wholly: list[str] = []
    for claim in Claim:
        cases = [(item.case, item.subject.link) for item in results.items if item.subject.claim is claim]
        tests = [(case, shown.link) for case, shown in results.shown if shown.claim is claim]
        out = results.left_out_of(claim)
        if not cases and not tests:
            named = f"`{claim}`" + (f" (`{claim.elsewhere}`)" if claim.elsewhere else "")
            if claim is not Claim.OTHER:
                (wholly if out else without).append(named)
            continue
        cells = [
            _signed(counted(case for case, on in [*cases, *tests] if on is link))
            or ("–" if link in out else "·")
            for link in results.columns
        ]
        lines.append(_row(f"`{claim}`", *cells, claim.answer))
    said = [
        "· not on this link, – left out of this run." if any(" – |" in line for line in lines) else "",
        f"Left out of this run: {', '.join(wholly)}." if wholly else "",
        f"Without scenarios in this run: {', '.join(without)}." if without else "",
    ]
    return [*lines, *(line for text in said if text for line in ("", text))]


def _latency(results: Results) -> list[str]:
    """Each group of the scenarios that compare some."""
    rows = [(name, row) for name, found in measured(results).items() for row in found]
    if not rows:
        return []
    about = (
        "Round trips of a group that talks alone, and of one beside others' load; the ratio is what counts."
    )
    lines = ["", "### Latency beside others", "", about, ""]
    lines += [_row("scenario", "link", "group", *HEADINGS), _row(*["---"] * 3, *["--:"] * len(HEADINGS))]
    for name, row in rows[:GROUPS]:
        lines.append(_row(code(name), row.link, code(row.pace.group), *row.cells))
    return [*lines, *_further(len(rows))]


def _further(count: int) -> list[str]:
    """Below a table of so many groups, of which it has `GROUPS`; the empty line ends the table."""
    return ["", *([f"And {count - GROUPS} more groups.", ""] if count > GROUPS else [])]


def _backends(results: Results) -> Iterator[str]:
    """What differs of each that ran on both of vsock's devices, group by group."""
    found = backends.compared(results)
    if not found:
        return
    yield from ("", f"### {backends.TITLE}", "", backends.counted(found), "")
    yield from _pairs([(row.name, line) for row in found for line in row.lines if line.differs])
    if left := [(row.name, line) for row in found for line in row.left_open]:
        yield from ("", f"#### {backends.OPEN}", "", *_pairs(left))


def _pairs(lines: Sequence[tuple[str, backends.Line]]) -> Iterator[str]:
    """What each group of a scenario saw on the one and on the other device, as a table."""
    if lines:
        head = ("scenario or test", "clients", *backends.HEADINGS)
        yield from (_row(*head), _row(*["---"] * len(head)))
    for name, line in lines[:GROUPS]:
        seen = (_cell(", ".join(said) or backends.NOBODY) for said in line.apart)
        yield _row(_cell(name), _cell(line.part) if line.part else backends.ALL, *seen)
    yield from _further(len(lines))


def _cell(text: str) -> str:
    """`code` within a table, where a bar ends a cell even in code."""
    return code(text).replace("|", "\\|")


def _density(results: Results) -> list[str]:
    """What a proxy costs."""
    lines = ["", "### Memory per pod, with a multiplexing proxy and without"]
    found = density.judged(results)
    for _, judged in found:
        lines += ["", _row("MB", *density.HEADINGS), _row("---", *["--:"] * len(density.HEADINGS))]
        lines += [*(_row(*cells) for cells in density.rows(judged)), ""]
    return lines if found else []


def _signed(counts: dict[CaseOutcome, int]) -> str:
    return " ".join(f"{_SIGNS[word]} {counts[word]}" for word in WORST_FIRST if counts[word])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _unpassed(results: Results) -> Iterator[str]:
    """Failures and errors one by one with their first difference; the rest by reason."""
    differences = {item.case.id: item.difference for item in results.items}
    for outcome in WORST_FIRST[:-1]:
        cases = [case for case in results.cases if case.outcome is outcome]
        if outcome in (CaseOutcome.FAILED, CaseOutcome.ERROR):
            told = [f"{_name(case)}: {code(differences.get(case.id) or case.reason)}" for case in cases]
        else:
            reasons = dict.fromkeys(case.reason for case in cases)
            told = [_reason(reason, outcome, cases) for reason in reasons]
        if told:
            yield ""
        yield from (f"- {_SIGNS[outcome]} {line}" for line in told[:MOST])
        if told[MOST:]:
            yield f"- {_SIGNS[outcome]} and {len(told) - MOST} more"


def _deaths(results: Results) -> Iterator[str]:
    """The death matrix, a row for each client; what ends said stands in code."""
    found = deaths(results)
    if not found:
        return
    yield from ("### What dies, and what each end sees", "")
    yield f"On hosts with Linux {code(' and '.join(kernels(found)))}:"
    yield from ("", *(f"- {code(line, _WHOLE)}" for line in corrected(found)), "")
    clients, rows = sum(len(one.met) for one in found), sum(len(one.shown) for one in found)
    alike = "; those of a group that saw the same are one" if rows < clients else ""
    yield from (f"<details><summary>{clients} clients in {rows} rows{alike}</summary>", "")
    yield from _matrix(found)
    yield from ("", "</details>")


def _matrix(found: Sequence[Death]) -> Iterator[str]:
    head = ("what died", "link", *COLUMNS, "what else was disturbed")
    yield from (_row(*head), _row(*["---"] * len(head)))
    for death in found:
        for place, one in enumerate(death.shown):
            said = (who(one), *one.cells[1:], *([death.others] if place == 0 else []))
            cells = [_cell(text) for text in said]
            mark = "" if one.fits else "≠ "
            yield _row(f"{mark}{death.died}", death.item.subject.link, *cells, *([""] if place else []))


def _name(case: Case) -> str:
    if case.subject is None:
        return code(case.id)
    return f"{code(case.subject.scenario)} on {case.subject.link}"


def _reason(reason: str, outcome: CaseOutcome, cases: list[Case]) -> str:
    of = [case for case in cases if case.reason == reason]
    name = _name(of[0]) if len(of) == 1 else str(len(of))
    return f"{name} {outcome}" + (f": {code(reason)}" if reason else "")
