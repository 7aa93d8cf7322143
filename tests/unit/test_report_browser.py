"""The report in a real browser, from file://: no request, no complaint, it fits, keys and pointer work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import html
from harness.run import density
from tests.unit import chromium, runs
from tests.unit.densities import GOOD

pytestmark = pytest.mark.slow

FIRST = "#multiple-clients-8--vsock"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    density.write(folder / "test_density", GOOD)
    return html.write(runs.mixed(folder), folder)


@pytest.fixture(autouse=True)
def nothing_asked_for_and_no_complaint(page: chromium.Page, report: Path) -> Iterator[None]:
    page.requests.clear()
    page.complaints.clear()
    yield
    assert set(page.requests) == {report.as_uri()}
    assert page.complaints == []


def test_the_watch_over_requests_and_complaints_works(
    page: chromium.Page, report: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    bad.write_text(f"<html><head>{policy}</head><body><img src='x.png'><script>1</script></body></html>")
    page.load(bad)
    assert (tmp_path / "x.png").as_uri() in page.requests
    assert any("Content Security Policy" in text for text in page.complaints)
    page.requests[:] = [report.as_uri()]
    page.complaints.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_fits_and_is_painted(
    page: chromium.Page, report: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    page.load(report, width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") == width
    back = page.run("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(16, 20, 26)" if dark else "rgb(255, 255, 255)")
    picture = tmp_path / "page.png"
    page.picture(picture)
    assert picture.stat().st_size > 20_000
    assert (
        page.run("document.title")
        == f"✗ 2 failed, 1 error, 1 not run of 9 – {report.parent.name} – vsock-harness"
    )


def test_on_a_phone_a_tests_name_has_the_whole_width(page: chromium.Page, report: Path) -> None:
    page.load(report, width=390)
    names = "[...document.querySelectorAll('.others tbody th')].map((one) => one.clientWidth / innerWidth)"
    assert min(page.run(names)) > 0.9


def test_text_has_contrast(page: chromium.Page, report: Path) -> None:
    """WCAG 2's ratio of 4.5 between each text's colour and what is behind it, in both schemes."""
    for dark in (False, True):
        page.load(report, dark=dark)
        assert page.run(chromium.CONTRAST) == []


def test_keys_go_through_a_timeline_and_nothing_moves(page: chromium.Page, report: Path) -> None:
    page.load(report)
    timeline = f'document.querySelector("{FIRST} .timeline")'
    page.run(f"{timeline}.focus()")
    page.settle()
    height = page.run("document.documentElement.scrollHeight")
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "End", "Home", "ArrowUp"):
        page.press(key)
        told.append(page.run('document.querySelector(".tip.on").textContent').split(";")[0])
    assert told == [
        "client/0 connecting: 0.01 s to 0.02 s",
        "client/0 waiting: 0.02 s to 0.04 s",
        "client/0 wrong: at 0.04 s",
        "client/1 connecting: 0.06 s to 0.07 s",
        "client/1 refused: at 0.07 s",
        "client/1 connecting: 0.06 s to 0.07 s",
        "client/0 wrong: at 0.04 s",  # the sign above
    ]
    assert page.run("document.documentElement.scrollHeight") == height
    page.press("Escape")
    assert page.run('document.querySelector(".tip.on")') is None


def test_the_pointer_shows_what_a_guest_said_as_text(page: chromium.Page, report: Path) -> None:
    page.load(report)
    page.run(f"document.querySelector('{FIRST}').scrollIntoView()")
    page.settle()  # scrolling takes a tip away
    box = page.run(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
        f"(document.querySelector('{FIRST} use[href$=x]').getBoundingClientRect())"
    )
    page.point(*box)
    tip = "document.querySelector('.tip.on')"
    assert page.run(f"{tip}.textContent").startswith("client/0 wrong: at 0.04 s; expected 00")
    assert "<img src=x onerror=alert(1)>" in page.run(f"{tip}.textContent")
    assert page.run(f"{tip}.children.length") == 0


def test_tab_reaches_sections_timelines_and_evidence(page: chromium.Page, report: Path) -> None:
    page.load(report)
    reached = page.run(
        "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')].filter((e) => e.tabIndex === 0)"
        ".map((e) => e.classList[0] || e.tagName)"
    )
    assert reached[0] == "skip"
    assert {"A", "SUMMARY", "rows", "wide"} <= set(reached)
    assert reached.count("rows") == 4  # one stop each, however many events


def test_on_paper_it_is_light(page: chromium.Page, report: Path) -> None:
    page.load(report, dark=True, media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
