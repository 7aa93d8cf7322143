"""Whole runs, without VMs: what the process that the user started writes at their end, however they end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from harness.model.claims import Claim
from harness.model.link import Link
from harness.model.verdict import Verdict
from harness.report import reading
from harness.report.results import CaseOutcome, Results, Subject
from tests.unit.traces import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]

ALL = {
    Link.VSOCK: CaseOutcome.PASSED,
    Link.VIRTIO_SERIAL: CaseOutcome.FAILED,
    Link.VIRTCONSOLE: CaseOutcome.ERROR,
    Link.ISA_SERIAL: CaseOutcome.SKIPPED,
}
MIXED = {"virtio-serial": "served", "virtconsole": "broken", "isa-serial": "unfit"}


pytestmark = pytest.mark.slow


def made(folder: Path) -> Path:
    """A project with one scenario for four links."""
    (folder / "scenarios").mkdir()
    text = (SCENARIOS / "multiple-clients-8.yaml").read_text()
    out = ("  serial-proxy:", "  hybrid-vsock:", "long:")
    lines = [line for line in text.splitlines() if not line.startswith(out)]
    lines = [re.sub(", serial-proxy: [^,}]*", "", line) for line in lines]
    there = folder / "scenarios" / "multiple-clients-8.yaml"
    few = "\n".join(lines).replace(", serial-proxy, hybrid-vsock]", "]").replace(", serial-proxy: 256KiB", "")
    there.write_text(few + "\n")
    (folder / "pytest.ini").touch()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A run with one of each outcome."""
    folder = made(tmp_path_factory.mktemp("mixed"))
    return folder, *run(folder, MIXED)


def run(project: Path, behaviour: dict[str, str], *words: str) -> tuple[int, str]:
    """Exit code and output of a run on the host that is none; its page for CI is `page.md`."""
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "tests.unit.fake_host", "-p", "no:cacheprovider"]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(project / "cache"),
        "FAKE_HOST": json.dumps(behaviour),
        "GITHUB_STEP_SUMMARY": str(project / "page.md"),
    }
    words = words or ("scenarios",)
    # local: should the pretence ever fail, nothing is booted
    host = [] if "--host" in words else ["--host", "local"]
    done = subprocess.run(
        [*argv, *host, *words], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def written(project: Path) -> Results:
    return reading.read(project / "results/latest")


def outcomes(found: Results) -> dict[Link, CaseOutcome]:
    return {item.subject.link: item.outcome for item in found.items}


def check_mixed(project: Path, code: int, said: str) -> None:
    assert code == 1
    found = written(project)
    assert outcomes(found) == ALL
    assert found.run is not None
    assert found.run.exit_code == 1
    assert found.run.host == ("host: local (a host that is none)",)
    assert said.splitlines()[-1] == "report: results/latest/report.html"
    by_link = {item.subject.link: item for item in found.items}
    assert by_link[Link.VSOCK].case.seconds.keys() == {"setup", "call", "teardown"}
    assert by_link[Link.VSOCK].case.slowness >= 1
    assert by_link[Link.VSOCK].title == "Eight clients talk to one agent at once"
    assert by_link[Link.VSOCK].about.startswith("Each client is a process")
    assert by_link[Link.VIRTIO_SERIAL].difference.startswith("served 8 of 8, expected 1; first: client/1")
    assert by_link[Link.VIRTCONSOLE].case.told.startswith("QEMU ended before its monitor answered\nhint:")
    assert by_link[Link.ISA_SERIAL].case.text == "qemu-device: this QEMU has no <isa-serial>"


def test_each_outcome_is_in_the_results_and_in_the_reports(mixed: tuple[Path, int, str]) -> None:
    check_mixed(*mixed)
    project = mixed[0]
    page = (project / "results/latest/report.html").read_text()
    assert "qemu-device: this QEMU has no &lt;isa-serial&gt;" in page
    assert "1 failed, 1 error of 4" in page
    summary = (project / "results/latest/summary.md").read_text()
    assert summary.startswith("## ❌ 1 failed, 1 error of 4 (`")
    assert (project / "page.md").read_text() == summary + "\n"


def test_workers_tell_the_same(project: Path) -> None:
    check_mixed(project, *run(project, MIXED, "scenarios", "-n", "2"))


def test_junit_says_of_each_item_what_it_is_about(mixed: tuple[Path, int, str]) -> None:
    root = ET.parse(mixed[0] / "results/latest/junit.xml").getroot()
    cases = {str(case.get("name")): case for case in root.iter("testcase")}
    assert set(cases) == set(ALL)
    for link, case in cases.items():
        properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        verdict = properties.pop("verdict", None)
        assert float(properties.pop("slowness") or 0) >= 1
        about = {"claim": "multiple-clients", "link": link, "scenario": "multiple-clients-8"}
        assert properties == about | {"backend": Link(link).backend}
        assert (verdict is not None) == (ALL[Link(link)] in (CaseOutcome.PASSED, CaseOutcome.FAILED))
        if verdict is not None:
            assert msgspec.json.decode(verdict, type=Verdict).link == link
    tags = {link: {child.tag for child in case} - {"properties"} for link, case in cases.items()}
    assert tags == {
        "vsock": set(),
        "virtio-serial": {"failure"},
        "virtconsole": {"error"},
        "isa-serial": {"skipped"},
    }


def test_an_interrupted_run_says_what_it_did_not_run(project: Path) -> None:
    """What takes longest goes first: the slow serial ports."""
    code, said = run(project, {"vsock": "ctrl-c"})
    assert code == 2
    found = written(project)
    assert found.run is not None
    assert found.run.exit_code == 2
    assert outcomes(found) == {
        Link.ISA_SERIAL: CaseOutcome.PASSED,
        Link.VIRTCONSOLE: CaseOutcome.PASSED,
        Link.VSOCK: CaseOutcome.NOT_RUN,
        Link.VIRTIO_SERIAL: CaseOutcome.NOT_RUN,
    }
    told = {item.subject.link: item.case.text for item in found.items}
    assert told[Link.VSOCK] == "the run ended while it ran"
    assert not told[Link.VIRTIO_SERIAL]
    assert "The run was interrupted." in (project / "results/latest/report.html").read_text()
    rows = [" ".join(line.split()) for line in said.split("claims and links")[1].splitlines()]
    assert [row for row in rows if row.endswith("not run · ·")] == [
        "multiple-clients-8 virtio-serial not run · ·",
        "multiple-clients-8 vsock not run · ·",
    ]
    assert said.splitlines()[-1] == "report: results/latest/report.html"


def test_a_host_that_can_do_nothing(project: Path) -> None:
    code, _ = run(project, {"vsock": "unfit"}, "scenarios", "--link", "vsock")
    assert code == 5
    assert written(project).counts[CaseOutcome.SKIPPED] == 1
    assert "Nothing of the run could be run here." in (project / "results/latest/report.html").read_text()


def test_a_crash_and_a_bad_end_and_links_that_are_left_out(project: Path) -> None:
    behaviour = {"vsock": "crashed", "virtio-serial": "broken-end"}
    code, _ = run(project, behaviour, "scenarios", "--link", "vsock,virtio-serial")
    assert code == 1
    found = written(project)
    assert found.links == (Link.VSOCK, Link.VIRTIO_SERIAL)
    crashed, ended = found.items
    assert crashed.outcome is CaseOutcome.FAILED
    assert crashed.difference == "BUG: kernel NULL pointer dereference"
    (sockets,) = (project / "results/latest").glob("*/vsock-sockets.txt")
    assert sockets.parent.name == "multiple-clients-8-vsock"
    assert ended.outcome is CaseOutcome.ERROR
    assert ended.difference == "QEMU did not end"
    assert ended.subject == Subject(
        scenario="multiple-clients-8", claim=Claim.MULTIPLE_CLIENTS, link=Link.VIRTIO_SERIAL
    )


@pytest.mark.parametrize(
    ("behaviour", "word", "said"),
    [
        ("crashed-early", "ERROR", "BUG: unable to handle page fault"),
        ("overdue", "FAIL", "2 of 8 clients did not end"),
        ("broken-end", "ERROR", "QEMU did not end"),
    ],
)
def test_the_word_of_an_item_is_the_one_it_is_counted_under(
    project: Path, behaviour: str, word: str, said: str
) -> None:
    """Whoever's fault it was: the guest's before the test, or our own within it."""
    other, outcome, tag = {
        "ERROR": ("FAIL", CaseOutcome.ERROR, "error"),
        "FAIL": ("ERROR", CaseOutcome.FAILED, "failure"),
    }[word]
    code, output = run(project, {"vsock": behaviour}, "scenarios", "--link", "vsock")
    assert code == 1
    words = f"{word} multiple-clients-8 on vsock: {said}"
    assert words in output.splitlines()
    assert f"{other} multiple-clients-8" not in output
    assert re.search(rf"^=.* 1 {outcome}\b.* in .*=$", output, re.MULTILINE)
    (case,) = ET.parse(project / "results/latest/junit.xml").getroot().iter("testcase")
    assert words in str(case.findtext(tag))
    (item,) = written(project).items
    assert item.outcome is outcome
    assert item.difference.startswith(said)


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["here", "workers"])
def test_what_was_left_out_is_told(project: Path, more: tuple[str, ...]) -> None:
    code, said = run(project, {}, "scenarios", "--link", "vsock", *more)
    assert code == 0
    words = "3 of 4 left out by --link vsock"
    assert said.splitlines()[-2:] == [f"left out: {words}", "report: results/latest/report.html"]
    found = written(project)
    assert [one.link for one in found.left_out] == [Link.ISA_SERIAL, Link.VIRTCONSOLE, Link.VIRTIO_SERIAL]
    for name in ("report.html", "summary.md"):
        assert words in (project / "results/latest" / name).read_text()


MODULE = """\
import pytest

def test_fine(): pass

@pytest.mark.xfail(reason="not yet")
def test_wrong(): assert 0
"""


def test_other_tests_and_what_cannot_be_collected(project: Path) -> None:
    (project / "test_fine.py").write_text(MODULE)
    (project / "test_broken.py").write_text("import nothing_of_that_name\n")
    code, _ = run(
        project, {}, "scenarios", "test_fine.py", "test_broken.py", "--continue-on-collection-errors"
    )
    assert code == 1
    found = written(project)
    assert found.counts[CaseOutcome.PASSED] == 5
    others = {case.id: case for case in found.others}
    assert others["test_fine.py::test_fine"].outcome is CaseOutcome.PASSED
    assert others["test_fine.py::test_wrong"].text == "expected to fail: not yet"
    assert others["test_broken.py"].outcome is CaseOutcome.ERROR
    assert "nothing_of_that_name" in others["test_broken.py"].reason
    assert others["test_broken.py"].subject is None


def test_a_report_that_can_not_be_written_is_told_and_changes_nothing_else(project: Path) -> None:
    (project / "page.md").mkdir()
    code, said = run(project, {}, "scenarios", "--link", "vsock")
    assert code == 0
    assert said.splitlines()[-1] == f"can't be written: {project / 'page.md'}: Is a directory"
