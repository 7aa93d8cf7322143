"""A claim's own row: it counts all that tries the claim, and tells what was left out from what is not there
to be tried."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report import html, markdown
from harness.report.results import Case, CaseOutcome, LeftOut, Results, Shown
from tests.unit import runs
from tests.unit.traces import plan, right

DENSITY = "scenarios/test_high_density.py::test_a_proxy_costs_memory"
DISTRIBUTION = "scenarios/test_distribution.py::test_distribution"


def tried(
    name: str, claim: Claim, link: Link | None = None, outcome: CaseOutcome = CaseOutcome.PASSED
) -> Case:
    return Case(id=name, outcome=outcome, shown=Shown(claim=claim, link=link))


def found(folder: Path, *more: Case, out: Sequence[LeftOut] = ()) -> Results:
    """Eight clients on vsock and virtio-serial, both as they should be, and more."""
    plans = [plan("multiple-clients-8", link) for link in ("vsock", "virtio-serial")]
    cases = [runs.evidence(folder, one, right(one)) for one in plans]
    return runs.write(folder, [*cases, *more], left_out=tuple(out), choice="-m 'not long'")


def left_scenario(name: str, link: str) -> LeftOut:
    return LeftOut(id=f"scenarios/{name}.yaml::{link}", subject=runs.subject(plan(name, link)))


def left_test(name: str, claim: Claim, link: Link | None) -> LeftOut:
    return LeftOut(id=name, shown=Shown(claim=claim, link=link))


def page_row(results: Results, claim: Claim) -> list[str]:
    """What the cells of the claim's row in the page say, without its name's."""
    text = html.page(results)
    row = re.search(rf"<tr class=claim><th><strong>{claim}</strong>.*?(?=<tr)", text, re.S)
    assert row
    return [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in re.split("<td[^>]*>", row[0])[1:]]


def summary_row(results: Results, claim: Claim) -> list[str]:
    line = next(line for line in markdown.markdown(results).splitlines() if line.startswith(f"| `{claim}`"))
    return line.split(" | ")[1:-1]


def test_a_test_without_a_link_is_counted_where_the_claim_has_others(tmp_path: Path) -> None:
    failed = tried(DISTRIBUTION, Claim.MULTIPLE_CLIENTS, outcome=CaseOutcome.FAILED)
    results = found(tmp_path, failed)
    assert page_row(results, Claim.MULTIPLE_CLIENTS) == ["✓ 1 passed", "✓ 1 passed", "✗ 1 failed"]
    assert "<th>vsock<th>virtio-serial<th>no link" in html.page(results)
    row = re.search(r"<th>multiple-clients-8<.*?(?=<tr)", html.page(results), re.S)
    assert row
    assert "·" not in row[0]  # what is no scenario's has no place in a scenario's row
    assert summary_row(results, Claim.MULTIPLE_CLIENTS) == ["✅ 1", "✅ 1", "❌ 1"]


def test_without_such_tests_there_is_no_column_for_them(tmp_path: Path) -> None:
    results = found(tmp_path, tried(DENSITY, Claim.HIGH_DENSITY, Link.VSOCK))
    assert "no link" not in html.page(results)
    assert page_row(results, Claim.HIGH_DENSITY) == ["✓ 1 passed", "·"]


def test_a_claim_that_has_only_tests_without_a_link_is_one_cell(tmp_path: Path) -> None:
    results = found(tmp_path, tried(DISTRIBUTION, Claim.HIGH_DENSITY))
    assert page_row(results, Claim.HIGH_DENSITY) == ["✓ 1 passed"]
    assert "<td colspan=3><a" in html.page(results)
    assert summary_row(results, Claim.HIGH_DENSITY) == ["·", "·", "✅ 1"]


def test_what_was_left_out_on_a_link_is_not_taken_for_what_is_not_there(tmp_path: Path) -> None:
    killed = plan("reliability-qemu-killed", "vsock")
    results = found(
        tmp_path,
        runs.evidence(tmp_path, killed, right(killed)),
        tried(DENSITY, Claim.HIGH_DENSITY, Link.VSOCK),
        tried(DISTRIBUTION, Claim.OTHER),
        out=(
            left_scenario("reliability-serial-paused", "virtio-serial"),
            left_test(f"{DENSITY}_too", Claim.HIGH_DENSITY, Link.VIRTIO_SERIAL),
            left_test(DISTRIBUTION, Claim.MULTIPLE_CLIENTS, None),
        ),
    )
    rows = {
        Claim.RELIABILITY: ["1 passed", "–", "·"],
        Claim.HIGH_DENSITY: ["1 passed", "–", "·"],
        Claim.MULTIPLE_CLIENTS: ["1 passed", "1 passed", "–"],
    }
    for claim, cells in rows.items():
        assert [cell.removeprefix("✓ ") for cell in page_row(results, claim)] == cells
        assert summary_row(results, claim) == [cell.replace("1 passed", "✅ 1") for cell in cells]
    assert "– left out of this run" in markdown.markdown(results)
    listed = "left out of this run<td colspan=3 class=none>"
    text = html.page(results)
    assert f"{listed}reliability-serial-paused" in text
    assert f"{listed}test_high_density.py::test_a_proxy_costs_memory_too" in text


def test_a_claim_of_which_all_was_left_out_says_so(tmp_path: Path) -> None:
    out = [
        left_test(DENSITY, Claim.HIGH_DENSITY, Link.SERIAL_PROXY),
        left_scenario("serial-portable", "vsock"),
    ]
    results = found(tmp_path, out=out)
    assert page_row(results, Claim.HIGH_DENSITY) == ["left out of this run"]
    assert page_row(results, Claim.SERIAL_PORTABLE) == ["left out of this run"]
    assert page_row(results, Claim.POD_DIAGRAM) == ["no scenario of this claim in this run"]
    text = markdown.markdown(results)
    assert "Left out of this run: `serial-portable`, `high-density`.\n" in text
    without = next(line for line in text.splitlines() if line.startswith("Without scenarios in this run: "))
    assert "`pod-diagram`" in without
    assert "`high-density`" not in without


def test_of_a_test_that_ran_on_some_links_the_others_are_no_tests_left_out(tmp_path: Path) -> None:
    results = found(
        tmp_path,
        tried(f"{DENSITY}[vsock]", Claim.HIGH_DENSITY, Link.VSOCK),
        out=[left_test(f"{DENSITY}[virtio-serial]", Claim.HIGH_DENSITY, Link.VIRTIO_SERIAL)],
    )
    assert page_row(results, Claim.HIGH_DENSITY) == ["✓ 1 passed", "–"]
    assert "<th>left out of this run" not in html.page(results)
