"""The death matrix as a section of the page, and above it the claim as corrected."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report.corrected import corrected
from harness.report.deaths import COLUMNS, Death, deaths, kernels, who
from harness.report.markup import Markup, el
from harness.report.results import Results
from harness.report.scenarios import anchor
from harness.report.section import Section, badge

READ = (
    "A row is a client, by what its end on the host was in the middle of when the fault came. What it saw of "
    "that: an errno, eof (the stream's end), or nothing for so long (of a restore, from QEMU's end: "
    "before, it is stopped); or how it ended, if it told nothing. Next send: what one more send() gave. "
    "Connection then, once the fault is over as far as it ever is: gone (ended before), served (answers "
    "again), silent (no answer). A new one: what a new connection got. Guest end: what the guest's kernel "
    "told of that connection, and when. – was not asked or is not known, ≠ is not as expected."
)
"""What the columns say."""


_SECONDS = re.compile(r"(?<=\d) (?=s\b)")
"""The space before the unit, where no line is to end."""


def section(results: Results) -> Section | None:
    """The matrix, and above it the claim as corrected."""
    found = deaths(results)
    if not found:
        return None
    names = ("what died", *COLUMNS, "what else was disturbed")
    head = el("tr", *(el("th", name, scope="col") for name in names))
    several = len(kernels(found)) > 1
    rows = [row for death in found for row in _rows(death, several)]
    table = el("table", el("thead", head), el("tbody", *rows), class_="deaths")
    said = el(
        "p",
        "The page says: ",
        Claim.RELIABILITY.sentence,
        f". As corrected by what this run saw, on hosts with Linux {' and '.join(kernels(found))}:",
        class_="sentence",
    )
    lines = (line.partition(": ") for line in corrected(found))
    told = el("ul", *(el("li", el("strong", what), sign, rest) for what, sign, rest in lines))
    wide = el("div", table, class_="wide", tabindex=0, role="region", aria_label="The death matrix")
    read = el("p", READ, class_="note")
    without = (
        el("p", f"Left out of this run: {rest}.", class_="note") if (rest := _left_out(results)) else None
    )
    return Section("deaths", "What dies, and what each end sees", el("div", said, told, without, read, wide))


def _left_out(results: Results) -> str:
    """The scenarios of which nothing ran; then by link those that ran on others."""
    out = [one for one in results.left_out if one.subject and one.claim is Claim.RELIABILITY]
    ran = {item.subject.scenario for item in results.items}
    said = [", ".join(sorted({one.name for one in out} - ran))]
    for link in Link:
        names = sorted({one.name for one in out if one.link is link} & ran)
        said += [f"on {link} {', '.join(names)}"] if names else []
    return "; ".join(filter(None, said))


def _rows(death: Death, name_kernel: bool) -> Iterator[Markup]:
    height = len(death.shown) or 1
    what = el(
        "th",
        el("a", death.died, href=f"#{anchor(death.item.subject)}"),
        f" {death.item.subject.link}{f', Linux {death.kernel}' if name_kernel else ''} ",
        badge(death.item.outcome),
        scope="rowgroup",
        rowspan=height,
    )
    others = el("td", death.others, rowspan=height)
    for place, one in enumerate(death.shown):
        sign = () if one.fits else (el("b", "≠ ", aria_hidden="true"),)
        rest = (_SECONDS.sub("\u00a0", cell) for cell in one.cells[1:])
        cells = [el("td", *sign, who(one)), *(el("td", cell) for cell in rest)]
        yield el("tr", what if place == 0 else None, *cells, others if place == 0 else None)
    if not death.met:
        yield el("tr", what, el("td", death.item.outcome, colspan=len(COLUMNS)), others)
