"""The tests that are no scenario's, and the files of the run and its hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.report.markup import Markup, el, join
from harness.report.results import RUN, Case, Results, Shown
from harness.report.scenarios import address
from harness.report.section import Section, badge
from harness.report.words import seconds


def others(results: Results) -> Section | None:
    """Every other test with its outcome and time."""
    if not results.others:
        return None
    rows = [
        el(
            "tr",
            el("th", join(re.split(r"(?<=::)", case.id), el("wbr")), *_said(case.shown), scope="row"),
            el("td", badge(case.outcome)),
            el("td", seconds(sum(case.seconds.values())), class_="n"),
            id=ident(case),
        )
        for case in results.others
    ]
    names = ("test", "outcome", "time")
    head = el("tr", *(el("th", name, scope="col", class_="n" if name == "time" else None) for name in names))
    table = el("table", el("thead", head), el("tbody", *rows), class_="others")
    about = "Tests in Python. What those saw that try a claim is in the table of claims, too."
    wide = el("div", table, class_="wide", tabindex=0, role="region", aria_label="Further tests")
    return Section("tests", "Further tests", el("div", el("p", about, class_="note"), wide))


def ident(case: Case) -> str:
    """The id of a test that is no scenario's in the page."""
    return "test-" + re.sub(r"[^\w.-]", "-", case.id, flags=re.ASCII)


def _said(shown: Shown | None) -> list[Markup]:
    """What a test that bears a claim is, and what it saw against what it expected."""
    if shown is None:
        return []
    texts = [("", shown.title), ("expected: ", shown.expected), ("seen: ", shown.seen)]
    return [el("p", f"{name}{text}", class_="about") for name, text in texts if text]


def evidence(results: Results) -> Section | None:
    """The run's own files, and those of each host and test, by folder."""
    folders: dict[str, dict[str, list[str]]] = {}
    for name in results.files:
        folder, _, file = name.rpartition("/")
        if folder or file not in (*_OURS, RUN):
            top, _, below = folder.partition("/")
            folders.setdefault(top, {}).setdefault(below, []).append(file)
    if RUN in results.files:
        folders.setdefault("", {}).setdefault("", []).append(RUN)
    if not folders:
        return None
    entries = [_folder(top, below) for top, below in sorted(folders.items())]
    return Section("evidence", "Evidence of the run and its hosts", el("dl", *entries, class_="files"))


_OURS = ("report.html", "summary.md")
"""Made from the others, so no evidence."""


def _folder(top: str, folders: Mapping[str, list[str]]) -> Markup:
    """Its files, and on a line each those of the folders below it."""
    lines = []
    for below, files in sorted(folders.items(), key=lambda one: _by_number(one[0])):
        parts = [part for part in (top, *below.split("/")) if part]
        links = [el("a", file, href=address(*parts, file)) for file in files]
        lines.append(el("dd", f"{below}: " if below else None, join(links, " · ")))
    return el("div", el("dt", top or "run"), *lines)


def _by_number(name: str) -> list[str]:
    """So that pod-10 comes after pod-9."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
