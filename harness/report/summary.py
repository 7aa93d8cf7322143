"""A run as Markdown, made from its JUnit XML: for CI's job summaries.

``python -m harness.report.summary results/latest/junit.xml`` prints it.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from harness.model.claims import Claim
from harness.model.errors import HarnessError, UsageError
from harness.model.verdict import Row, Verdict

_COUNTS = ("served", "waiting", "refused", "garbled", "other")
_SIGNS = {"passed": "✅", "failed": "❌", "error": "💥", "skipped": "⏭️", "rerun": "🔁"}
_LONGEST = 2000
"""Characters of a failure's text that are kept: a job summary may have 1 MiB in all."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One test of the run. `row` is None where no verdict was reached; `scenario` empty for other tests.

    `rerun` is why an earlier try does not count: its host, and what was wrong with that.
    """

    name: str
    outcome: str
    text: str
    scenario: str
    claim: str
    link: str
    row: Row | None
    rerun: str = ""


def read(path: Path) -> list[Case]:
    """The tests in a JUnit file as pytest writes it (its xunit2 family).

    :raise UsageError: when there is no such file, or it is no JUnit file of ours.
    """
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", hint="results/latest/junit.xml"
        ) from error
    except ET.ParseError as error:
        raise UsageError(f"{path} is not XML: {error}", hint="was the run cut off?") from error
    try:
        return [_case(element) for element in root.iter("testcase")]
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} has a verdict of another version: {error}") from error


def _case(element: ET.Element) -> Case:
    properties = {entry.get("name", ""): entry.get("value", "") for entry in element.iter("property")}
    verdict = properties.get("verdict")
    outcome, text = "passed", ""
    for tag, word in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
        found = element.find(tag)
        if found is not None:
            outcome, text = word, (found.text or found.get("message") or "").strip()
    return Case(
        name=f"{element.get('classname', '')}::{element.get('name', '')}",
        outcome=outcome,
        text=text,
        scenario=properties.get("scenario", ""),
        claim=properties.get("claim", ""),
        link=properties.get("link", ""),
        row=msgspec.json.decode(verdict, type=Verdict).row if verdict else None,
        rerun=properties.get("rerun", ""),
    )


def markdown(title: str, cases: Sequence[Case]) -> str:
    """The run's totals, the table claim × link of its scenarios, the text of each failure and rerun."""
    totals = Counter(case.outcome for case in cases)
    totals["rerun"] = sum(1 for case in cases if case.rerun)
    counted = ", ".join(f"{totals[word]} {word}" for word in _SIGNS if totals[word]) or "no tests"
    lines = [f"## {title}: {counted}", ""]
    scenarios = [case for case in cases if case.scenario]
    if scenarios:
        lines += _table(scenarios)
    for case in cases:
        if case.outcome in ("failed", "error"):
            lines += _folded(case, case.outcome, case.text)
        if case.rerun:
            lines += _folded(case, "rerun", case.rerun)
    return "\n".join(lines) + "\n"


def _table(cases: Iterable[Case]) -> list[str]:
    names = ("claim", "scenario", "link", *_COUNTS, "expected", "")
    lines = [_line(names), _line(["---"] * 3 + ["--:"] * len(_COUNTS) + ["---"] * 2)]
    order = {claim.value: place for place, claim in enumerate(Claim)}
    for case in sorted(cases, key=lambda case: (order.get(case.claim, 99), case.scenario, case.link)):
        counts = [str(getattr(case.row, name) or "·") if case.row else "" for name in _COUNTS]
        expected = case.row.expected if case.row else case.text.splitlines()[0] if case.text else ""
        sign = f"{_SIGNS[case.outcome]} {case.outcome}"
        lines.append(_line([f"`{case.claim}`", case.scenario, case.link, *counts, expected, sign]))
    return [*lines, ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _folded(case: Case, sign: str, text: str) -> list[str]:
    """A text as it is: a fence longer than any in it keeps it so."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n[…]"
    fence = "```"
    while fence in text:
        fence += "`"
    name = case.name.replace("&", "&amp;").replace("<", "&lt;")
    return [
        f"<details><summary>{_SIGNS[sign]} {name}</summary>",
        "",
        fence,
        text,
        fence,
        "</details>",
        "",
    ]


def main(argv: Sequence[str]) -> int:
    """Print the summary of each JUnit file named; the exit code: 0, or 2 if one could not be read."""
    code = 0
    for name in argv:
        path = Path(name)
        try:
            sys.stdout.write(markdown(path.resolve().parent.name, read(path)))
        except HarnessError as error:
            sys.stderr.write(f"{error}\n")
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
