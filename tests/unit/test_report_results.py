"""A results folder read back: whole, torn, cut off, and none."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.report import reading
from harness.report.results import CaseOutcome
from tests.unit import runs
from tests.unit.traces import everybody_served, plan, right


def test_a_run_reads_back_sorted_by_claim_scenario_and_link(tmp_path: Path) -> None:
    found = runs.mixed(tmp_path)
    assert found.run is not None
    assert found.run.exit_code == 2
    assert found.versions == runs.VERSIONS
    order = [(item.subject.scenario, item.subject.link.value) for item in found.items]
    eight, stale = "multiple-clients-8", "serial-stale-reply"
    assert order == [
        *((stale, link) for link in ("vsock", "virtconsole", "isa-serial")),
        *((eight, link) for link in ("vsock", "virtio-serial", "virtconsole", "isa-serial")),
    ]
    assert found.counts == {
        CaseOutcome.PASSED: 4,
        CaseOutcome.FAILED: 2,
        CaseOutcome.ERROR: 1,
        CaseOutcome.SKIPPED: 1,
        CaseOutcome.NOT_RUN: 1,
    }
    assert len(found.others) == 2
    assert found.files == ('lab0/a"b <c>.log', "run.json", "versions.json")
    first = found.items[0]
    assert first.files == ("console.log", "facts.json", "plan.json", "trace.jsonl", "verdict.json")
    assert first.plan == plan(stale, "vsock")
    assert list(first.trace) == right(plan(stale, "vsock"))
    assert first.facts is not None
    assert first.facts.hello == runs.HELLO


def test_what_is_said_of_a_failure(tmp_path: Path) -> None:
    found = runs.mixed(tmp_path)
    by_link = {
        item.subject.link: item for item in found.items if item.subject.scenario == "multiple-clients-8"
    }
    assert by_link[Link.VSOCK].difference == (
        "served 5 of 8, expected 8; first: client/0 read wrong data in step 1 (echo): expected 00, seen "
        f"{runs.HOSTILE}"
    )
    assert by_link[Link.VIRTCONSOLE].case.told == f"{runs.HOSTILE}\nmore"
    assert by_link[Link.VIRTCONSOLE].difference == runs.HOSTILE
    assert by_link[Link.VIRTIO_SERIAL].difference == ""
    assert found.others[1].reason == runs.HOSTILE


def test_torn_evidence_is_missing_and_named(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    case = runs.evidence(tmp_path, on_link, right(on_link))
    own = tmp_path / "pod-diagram-vsock"
    for name in ("trace.jsonl", "facts.json"):
        (own / name).write_bytes((own / name).read_bytes()[:-9])
    (own / "verdict.json").write_bytes(b"\xff\xfe")
    (item,) = runs.write(tmp_path, [case]).items
    assert (item.trace, item.facts, item.verdict) == ((), None, None)
    assert item.plan == on_link
    assert item.title == on_link.title
    assert [line.partition(" can't")[0] for line in item.unreadable] == [
        "verdict.json",
        "facts.json",
        "trace.jsonl",
    ]


def test_without_run_json_the_verdicts_speak(tmp_path: Path) -> None:
    for link, trace in (("vsock", right), ("virtio-serial", everybody_served)):
        on_link = plan("pod-diagram", link)
        runs.evidence(tmp_path, on_link, trace(on_link))
    (tmp_path / "pod-diagram-vsock").rename(tmp_path / "elsewhere")  # not where its verdict belongs
    found = reading.read(tmp_path)
    assert found.run is None
    assert [(item.subject.link, item.outcome) for item in found.items] == [
        (Link.VIRTIO_SERIAL, CaseOutcome.FAILED)
    ]
    assert found.items[0].difference.startswith("served 2 of 2, expected 1")
    (tmp_path / "run.json").write_text('{"cases": ')
    assert reading.read(tmp_path).unreadable[0].startswith("run.json can't be read: ")


def test_no_results_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        reading.read(tmp_path / "none")
    with pytest.raises(UsageError, match="no results of a run"):
        reading.read(tmp_path)


def test_the_command_writes_both_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.mixed(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n{tmp_path}/summary.md\n"
    before = (tmp_path / "report.html").read_text()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == before  # what it made is no evidence


def test_the_command_takes_the_latest_and_knows_what_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "results/latest: no such folder" in capsys.readouterr().err
    (tmp_path / "results/one").mkdir(parents=True)
    (tmp_path / "results/latest").symlink_to("one")
    runs.mixed(tmp_path / "results/one")
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith("results/latest/report.html\n")
    assert "<code>one</code>" in (tmp_path / "results/one/report.html").read_text()
