"""The table of a run on the terminal. The only user of rich."""

from __future__ import annotations

import io
import shutil

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.model.verdict import Row

_STYLES = {"passed": "green", "failed": "bold red", "error": "bold red", "skipped": "yellow"}
_IN_A_LOG = 150
"""Columns where nobody's terminal says otherwise."""


class Line(msgspec.Struct, frozen=True):
    """One item: what it was about, how it ended, and its counts if it came that far."""

    scenario: str
    claim: str
    link: str
    outcome: str
    row: Row | None
    remark: str = ""


def table(lines: list[Line], colour: bool) -> str:
    """Claim × link as text, `colour` with ANSI sequences; sorted by claim, scenario, link."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("claim", "scenario", "link"):
        grid.add_column(name, no_wrap=name != "scenario", overflow="fold")
    for name in ("served", "waiting", "refused", "garbled", "other"):
        grid.add_column(name, justify="right")
    grid.add_column("expected")
    grid.add_column("")
    before = ""
    for line in sorted(lines, key=lambda line: (line.claim, line.scenario, line.link)):
        seen = [_counted(line.row, name) for name in ("served", "waiting", "refused", "garbled", "other")]
        expected = escape(line.row.expected if line.row else line.remark)
        outcome = f"[{_STYLES.get(line.outcome, '')}]{line.outcome}[/]"
        claim = "" if line.claim == before else line.claim
        before = line.claim
        grid.add_row(claim, escape(line.scenario), line.link, *seen, expected, outcome)
    width = shutil.get_terminal_size((_IN_A_LOG, 25)).columns if colour else _IN_A_LOG
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False).print(grid)
    return out.getvalue().rstrip()


def _counted(row: Row | None, name: str) -> str:
    number = getattr(row, name) if row else 0
    return str(number) if number else "·"
