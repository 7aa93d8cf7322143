"""The table of a run on the terminal. The only user of rich."""

from __future__ import annotations

import io
import shutil

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.model.verdict import Row

_STYLES = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "skipped": "yellow",
    "not run": "bold red",
}
_IN_A_LOG = 150
"""Columns where nobody's terminal says otherwise."""


_COUNTS = ("served", "waiting", "refused", "garbled", "other")


class Line(msgspec.Struct, frozen=True):
    """One item: what it was about, how it ended, and its counts if it came that far.

    `remark`: without counts, why it was skipped or what was seen.
    """

    scenario: str
    claim: str
    link: str
    outcome: str
    row: Row | None
    remark: str = ""


def table(lines: list[Line], colour: bool) -> str:
    """Claim × link as text, `colour` with ANSI sequences; sorted by claim, scenario, link.

    Of the counts there are those that any line has.
    """
    counts = [name for name in _COUNTS if any(line.row and getattr(line.row, name) for line in lines)]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("claim", "scenario", "link", ""):
        grid.add_column(name, no_wrap=name != "scenario", overflow="fold")
    for name in counts:
        grid.add_column(name, justify="right")
    grid.add_column("expected" if counts else "seen")
    before = ""
    for line in sorted(lines, key=lambda line: (line.claim, line.scenario, line.link)):
        numbers = [_counted(line.row, name) for name in counts]
        outcome = f"[{_STYLES.get(line.outcome, '')}]{line.outcome}[/]"
        claim = "" if line.claim == before else line.claim
        before = line.claim
        grid.add_row(claim, escape(line.scenario), line.link, outcome, *numbers, escape(_said(line, counts)))
    width = shutil.get_terminal_size((_IN_A_LOG, 25)).columns if colour else _IN_A_LOG
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False).print(grid)
    return out.getvalue().rstrip()


def _said(line: Line, counts: list[str]) -> str:
    """What was expected; of one without counts what was seen, marked as that below `expected`."""
    if line.row:
        return line.row.expected
    return f"seen: {line.remark}" if counts and line.remark and line.outcome != "skipped" else line.remark


def _counted(row: Row | None, name: str) -> str:
    number = getattr(row, name) if row else 0
    return str(number) if number else "·"
