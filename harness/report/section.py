"""What the page is made of: sections, each a function of the results that gives None without data for it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from harness.report.markup import Markup, el
from harness.report.results import CaseOutcome, Results
from harness.report.words import SIGNS


class Section(msgspec.Struct, frozen=True):
    """A part of the page with a heading, reached as ``#ident`` from the list at the top."""

    ident: str
    title: str
    body: Markup


Maker = Callable[[Results], Section | None]


def badge(outcome: CaseOutcome) -> Markup:
    """The outcome as sign and word."""
    return el("b", f"{SIGNS[outcome]} {outcome}", class_=" ".join(filter(None, ["badge", unusual(outcome)])))


def css(outcome: CaseOutcome) -> str:
    """The class of what has this outcome."""
    return f"o-{outcome.replace(' ', '-')}"


def unusual(outcome: CaseOutcome) -> str | None:
    """The same, but for what passed: whatever stands in nothing that has an outcome is drawn so."""
    return None if outcome is CaseOutcome.PASSED else css(outcome)
