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

GAPS = """[...document.querySelectorAll(".timeline > p > svg")].flatMap((life) => {
  const bars = [...life.querySelectorAll(":scope > rect[width]")].map((bar) => bar.getBoundingClientRect());
  return bars.slice(1).map((bar, place) => bar.left - bars[place].right);
}).filter((gap) => Math.abs(gap) > 1.5)"""
"""Pixels between a client's bars."""


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
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
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
    """A sign is a copy, and selectors for its original do not reach it."""
    page.load(whole, dark=dark)
    for sign, colour in (("f", text), ("q", text), ("x", failed), ("l", failed)):
        own = f"getComputedStyle(document.querySelector('.legend [href=\"#{sign}\"]'))"
        wanted = f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"
        assert page.run(f"[{own}.fill, {own}.color]") == [wanted, wanted]


def test_ticks_are_as_high_as_bars_however_many(page: chromium.Page, whole: Path) -> None:
    page.load(whole)
    heights = """[...document.querySelectorAll(".timeline > p > svg :is(rect:not([width]), svg path)")].map(
      (tick) => Math.round(tick.getBoundingClientRect().height))"""
    assert set(page.run(heights)) == {12}
    assert page.run('document.querySelector(".timeline > p > svg svg path") !== null')


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


def test_bars_follow_each_other(page: chromium.Page, whole: Path) -> None:
    page.load(whole)
    assert page.run(GAPS) == []


def test_without_its_script_the_drawings_are_there(page: chromium.Page, whole: Path) -> None:
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.load(whole, width=390)
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelector('.tip')") is None
    bars = f"[...document.querySelectorAll('{EIGHT} .timeline rect.w')]"
    widths = page.run(f"{bars}.map((bar) => bar.getBoundingClientRect().width)")
    assert len(widths) == 8
    assert min(widths) > 10
