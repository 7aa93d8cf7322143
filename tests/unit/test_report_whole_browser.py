"""The page of a whole catalogue in a real browser: it fits a phone, its links work, it asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import html
from harness.run import density
from tests.unit import chromium, runs
from tests.unit.densities import GOOD

pytestmark = pytest.mark.slow

EIGHT = "#multiple-clients-8--isa-serial"

OVERFLOWING = """[...document.querySelectorAll("main *")].filter((element) => {
  const box = element.getBoundingClientRect();
  const inside = element.closest(".wide, details, svg, .unseen");
  return !inside && box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((element) => element.tagName + "." + element.className + ": " + element.textContent.slice(0, 60))"""
"""What of the page sticks out of the window and can't be scrolled on its own."""

UNSCROLLED = """[...document.querySelectorAll(".wide, details")].filter((element) =>
  element.getBoundingClientRect().right > innerWidth + 0.5
  || (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "auto")
).map((element) => element.textContent.slice(0, 60))"""
"""Wide things without a scroll of their own."""


OPENED = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    density.write(folder / "test_density", GOOD)
    return html.write(runs.catalogue(folder), folder)


@pytest.fixture(autouse=True)
def nothing_asked_for_and_no_complaint(page: chromium.Page, whole: Path) -> Iterator[None]:
    page.requests.clear()
    page.complaints.clear()
    yield
    assert {address.partition("#")[0] for address in page.requests} == {whole.as_uri()}
    assert page.complaints == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out(page: chromium.Page, whole: Path, width: int) -> None:
    page.load(whole, width=width)
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run(OVERFLOWING) == []
    page.run(OPENED)
    page.settle()
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run(UNSCROLLED) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(page: chromium.Page, whole: Path, dark: bool) -> None:
    page.load(whole, width=390, dark=dark)
    assert page.run(chromium.CONTRAST) == []


@pytest.mark.parametrize(
    ("dark", "text", "failed"), [(False, "#1c2128", "#c11c28"), (True, "#e4e9ef", "#ff8a84")]
)
def test_signs_are_seen_in_both_schemes(
    page: chromium.Page, whole: Path, dark: bool, text: str, failed: str
) -> None:
    """Some are strokes. Others are copies, and selectors for their originals do not reach them."""
    page.load(whole, dark=dark)
    for sign, painted, colour in (
        (".f", "stroke", text),
        (".q", "stroke", text),
        ("[href$=x]", "fill", failed),
        ("[href$=l]", "color", failed),
    ):
        wanted = f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"
        assert page.run(f"getComputedStyle(document.querySelector('.legend {sign}')).{painted}") == wanted


@pytest.mark.parametrize("width", [390, 1280])
def test_bars_are_beside_their_clients_however_many(page: chromium.Page, whole: Path, width: int) -> None:
    """All of a timeline are one picture, which is stretched: its strokes are not; each row has its share."""
    page.load(whole, width=width)
    page.run(OPENED)
    page.settle()
    off = """[...document.querySelectorAll(".timeline")].filter((timeline) => {
      const life = timeline.querySelector("svg + svg").getBoundingClientRect();
      const rows = [...timeline.querySelectorAll("p")].map((row) => row.getBoundingClientRect());
      const pitch = life.height / rows.length;
      return rows.some((row, place) => {
        const middle = life.top + (place + .5) * pitch;
        return Math.abs(row.height - pitch) > .5 || middle - 6 < row.top || middle + 6 > row.bottom;
      });
    }).length"""
    assert page.run(off) == 0
    strokes = """["s", "k", "w", "e"].map((kind) => document.querySelector(".timeline ." + kind))
      .map(getComputedStyle).map((style) => style.strokeWidth + " " + style.vectorEffect)"""
    assert set(page.run(strokes)) == {"12px non-scaling-stroke"}


def test_names_and_ends_are_in_their_columns(page: chromium.Page, whole: Path) -> None:
    for width in (390, 1280):
        page.load(whole, width=width)
        page.run(OPENED)
        sides = """[...document.querySelectorAll(".timeline > p")].map((row) => {
          const life = row.parentElement.querySelector("svg + svg").getBoundingClientRect();
          const range = document.createRange();
          range.selectNodeContents(row.children[1] || row.lastChild);
          const [name, end] = [row.firstChild, range].map((part) => part.getBoundingClientRect());
          if (innerWidth < 600) return name.right <= end.left;
          return name.right <= life.left && life.right <= end.left;
        })"""
        assert set(page.run(sides)) == {True}


def test_every_link_within_leads_somewhere(page: chromium.Page, whole: Path) -> None:
    page.load(whole)
    to = """[...document.querySelectorAll('[href^="#"]')].map((one) => one.getAttribute("href").slice(1))"""
    assert page.run(f"{to}.length") > 100
    assert page.run(f"{to}.filter((ident) => !document.getElementById(ident))") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_cell_leads_to_its_clients(page: chromium.Page, whole: Path, width: int) -> None:
    page.load(whole, width=width)
    page.run(f"document.querySelector('.matrix a[href=\"{EIGHT}\"]').click()")
    page.settle()
    assert page.run("location.hash") == EIGHT
    heading, list_of_sections = (
        page.run(f"document.querySelector('{what}').getBoundingClientRect()['{side}']")
        for what, side in ((":target h4", "top"), ("nav", "bottom"))
    )
    assert list_of_sections <= heading < 300
    assert page.run("document.querySelectorAll(':target .timeline > p').length") == 8


def test_each_section_is_in_the_list(page: chromium.Page, whole: Path) -> None:
    page.load(whole)
    listed = page.run("[...document.querySelectorAll('nav a')].map((one) => one.textContent)")
    assert listed == page.run("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    assert {"Claims and links", "What dies, and what each end sees", "Memory per pod"} <= set(listed)


def test_without_its_script_the_drawings_are_there(page: chromium.Page, whole: Path) -> None:
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.load(whole, width=390)
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelector('.tip')") is None
    bars = f"document.querySelector('{EIGHT} .timeline path.w')"
    assert page.run(f"{bars}.getAttribute('d').match(/M/g).length") == 8
    assert page.run(f"{bars}.getBoundingClientRect().width") > 100
