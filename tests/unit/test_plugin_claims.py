"""Tests that are no scenario's and bear a claim, and scenarios that take long, in whole runs without VMs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report.results import CaseOutcome, Shown
from tests.unit.test_report_run import made, run, written

pytestmark = pytest.mark.slow

MODULE = '''
import pytest

@pytest.mark.claim("high-density")
def test_slope(record_property):
    """Memory per pod.

    More.
    """
    record_property("expected", "some")
    record_property("seen", "4 MB")

@pytest.mark.claim("multiple-clients", link="vsock")
@pytest.mark.long
def test_control():
    assert not "single client"

def test_other():
    pass
'''


INTERRUPTED = """
import pytest

def test_first():
    raise KeyboardInterrupt

@pytest.mark.claim("multiple-clients", link="vsock")
def test_second():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made(tmp_path)
    (tmp_path / "scenarios/test_claims.py").write_text(MODULE)
    return tmp_path


def test_they_have_rows_in_table_report_and_summary(project: Path) -> None:
    code, said = run(project, {}, "scenarios/test_claims.py")
    assert code == 1
    rows = [line.split() for line in said.split("claims and links")[1].split("\n")]
    assert ["high-density", "test_claims.py::test_slope", "·", "passed", "4", "MB"] in rows
    found = written(project)
    shown = {case.name: (case.outcome, shown) for case, shown in found.shown}
    assert shown == {
        "test_claims.py::test_slope": (
            CaseOutcome.PASSED,
            Shown(claim=Claim.HIGH_DENSITY, title="Memory per pod.", seen="4 MB", expected="some"),
        ),
        "test_claims.py::test_control": (
            CaseOutcome.FAILED,
            Shown(claim=Claim.MULTIPLE_CLIENTS, link=Link.VSOCK),
        ),
    }
    page = (project / "results/latest/report.html").read_text()
    assert "href=#test-scenarios-test_claims.py--test_slope>passed: 4 MB</a>" in page
    assert page.count("id=test-scenarios-test_claims.py--test_slope>") == 1
    # a claim's row counts tests, too
    assert "href=#test-scenarios-test_claims.py--test_control><span" in page
    summary = (project / "page.md").read_text()
    assert "| claim | vsock | no link |" in summary
    assert "| `high-density` | · | ✅ 1 |" in summary
    assert "| `multiple-clients` | ❌ 1 | · |" in summary


@pytest.mark.parametrize(
    ("words", "ran"),
    [
        (["-m", "not long"], {"test_slope", "test_other"}),
        (["-m", "long"], {"test_control"}),
        (["--link", "virtio-serial"], {"test_slope", "test_other"}),
    ],
)
def test_they_can_be_chosen_by_marker_and_link(project: Path, words: list[str], ran: set[str]) -> None:
    run(project, {}, "scenarios/test_claims.py", *words)
    assert {case.name.split("::")[1] for case in written(project).others} == ran


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["here", "workers"])
def test_of_one_that_is_left_out_claim_and_link_are_known(project: Path, more: tuple[str, ...]) -> None:
    run(project, {}, "scenarios/test_claims.py", "-m", "not long", *more)
    (out,) = written(project).left_out
    assert (out.name, out.claim, out.link) == (
        "test_claims.py::test_control",
        Claim.MULTIPLE_CLIENTS,
        Link.VSOCK,
    )


def test_what_never_ran_has_rows_too(project: Path) -> None:
    """Of a test in Python its claim is known as well."""
    (project / "scenarios/test_claims.py").write_text(INTERRUPTED)
    _, said = run(project, {}, "scenarios/test_claims.py")
    rows = [line.split() for line in said.split("claims and links")[1].split("\n")]
    assert ["multiple-clients", "test_claims.py::test_second", "vsock", "not", "run"] in rows
    shown = {case.name: (case.outcome, shown.claim) for case, shown in written(project).shown}
    assert shown["test_claims.py::test_second"] == (CaseOutcome.NOT_RUN, Claim.MULTIPLE_CLIENTS)


def say_long(path: Path, where: str) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("long:")]
    path.write_text("\n".join([*lines, f"long: {where}", ""]))


def test_a_scenario_that_takes_long_has_the_marker(project: Path) -> None:
    path = project / "scenarios/multiple-clients-8.yaml"
    say_long(path, "true")
    _, said = run(project, {}, "scenarios", "-m", "not long", "--collect-only", "-q")
    assert "test_slope" in said
    assert "multiple-clients-8" not in said


def test_a_scenario_may_take_long_on_some_links_alone(project: Path) -> None:
    path = project / "scenarios/multiple-clients-8.yaml"
    say_long(path, "[virtio-serial]")
    _, said = run(project, {}, "scenarios", "-m", "not long", "--collect-only", "-q")
    assert "multiple-clients-8.yaml::vsock" in said
    assert "multiple-clients-8.yaml::virtio-serial" not in said
    _, said = run(project, {}, "scenarios", "--link", "virtio-serial", "--collect-only", "-q")
    assert "multiple-clients-8.yaml::virtio-serial" in said


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('"high-densty"', "'high-densty' is not a valid Claim; claims: serial-portable, "),
        ('"high-density", link="vsok"', "'vsok' is not a valid Link; claims: "),
        ("", "marker claim: "),
    ],
)
def test_a_claim_that_is_none_is_a_usage_error(project: Path, marker: str, told: str) -> None:
    module = project / "scenarios/test_claims.py"
    module.write_text(MODULE.replace('claim("high-density")', f"claim({marker})"))
    code, said = run(project, {}, "scenarios/test_claims.py")
    assert code == 4
    assert told in said
