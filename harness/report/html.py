"""The report of a run as one HTML file that asks for nothing: no font, no script, no picture from elsewhere.

A section is a function of the results; `SECTIONS` lists them in the page's order. One for which there is no
data gives None and is not there. To add one, write such a function and put it into the list.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from harness.report import deathtable, whole
from harness.report.backends import backends
from harness.report.density import density
from harness.report.drawing import definitions
from harness.report.latency import latency
from harness.report.markup import Markup, document, el, join
from harness.report.matrix import matrix
from harness.report.overview import attention, header, heading, whole_outcome
from harness.report.rest import evidence, others
from harness.report.results import Results
from harness.report.scenarios import scenarios
from harness.report.section import Maker, Section
from harness.report.times import times
from harness.report.words import SIGNS

NAME = "report.html"

SECTIONS: tuple[Maker, ...] = (
    attention,
    matrix,
    deathtable.section,
    scenarios,
    backends,
    latency,
    density,
    times,
    others,
    evidence,
)


def page(results: Results) -> str:
    """The whole file. Pure: the same results give the same text."""
    made = [section for maker in SECTIONS if (section := maker(results))]
    outcome = whole_outcome(results)
    title = f"{SIGNS[outcome]} {heading(results)} – {results.name} – vsock-harness"
    body = join(
        [
            definitions(),
            el("a", "To the content", href="#content", class_="skip"),
            header(results),
            el("nav", el("ul", *(_entry(section) for section in made)), aria_label="Sections"),
            el("main", *(_whole(section) for section in made), id="content", tabindex=-1),
            el("footer", _footer(results)),
        ]
    )
    return document(title, _tight(_read("style.css")), _read("page.js"), body)


def write(results: Results, folder: Path) -> Path:
    """Write the page into `folder`; where it is.

    :raise OSError: when that fails.
    """
    path = folder / NAME
    whole.write(path, page(results).encode())
    return path


def _entry(section: Section) -> Markup:
    return el("li", el("a", section.title, href=f"#{section.ident}"))


def _whole(section: Section) -> Markup:
    heading = el("h2", section.title, id=f"{section.ident}-title")
    return el("section", heading, section.body, id=section.ident, aria_labelledby=f"{section.ident}-title")


def _footer(results: Results) -> Markup:
    said = "Made from the files beside it; vsock-harness report writes it again. "
    return el("p", said, "Traces and consoles hold what guests said: text, never trusted.")


def _tight(style: str) -> str:
    """Without comments and the blanks that say nothing."""
    bare = re.sub(r"/\*.*?\*/\s*", "", style, flags=re.DOTALL)
    return re.sub(r";?\s*(})|\s*([{;>])\s*|(?<=[:,])\s+", r"\1\2", bare)


def _read(name: str) -> str:
    """Without the indentation: nobody edits it in the page."""
    return re.sub(r"\n +", "\n", (resources.files("harness.report") / name).read_text(encoding="utf-8"))
