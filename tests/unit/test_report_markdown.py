"""The summary for CI pages: short, and no Markdown or HTML but ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.host.pipes import PIPE_CLOSED
from harness.model.claims import Claim
from harness.report import markdown, reading
from harness.report.markup import shown
from harness.report.results import CaseOutcome
from tests.unit import runs
from tests.unit.traces import plan, right

SPAN = re.compile(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)")


def test_the_whole_of_it(tmp_path: Path) -> None:
    lines = markdown.markdown(runs.mixed(tmp_path)).splitlines()
    assert lines[0] == f"## ❌ 2 failed, 1 error, 1 not run of 9 (`{tmp_path.name}`)"
    assert lines[2] == "2 failed, 1 error, 1 not run, 1 skipped, 4 passed"
    assert "host: `lab (kvm missing)`  " in lines
    assert "**`The run was interrupted.`**  " in lines
    assert [line for line in lines if line.startswith("|")] == [
        "| claim | vsock | virtio-serial | virtconsole | isa-serial | found by this project |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| `serial-one-process` | ✅ 1 | · | ⚪ 1 | ✅ 1 | {Claim.SERIAL_ONE_PROCESS.answer} |",
        f"| `multiple-clients` | ❌ 1 | ✅ 1 | 💥 1 | ⏭️ 1 | {Claim.MULTIPLE_CLIENTS.answer} |",
    ]
    assert any(
        line.startswith("Without scenarios in this run: `serial-portable`, `pod-diagram`") for line in lines
    )
    told = [line for line in lines if line.startswith("- ")]
    assert told[0].startswith(
        "- ❌ `multiple-clients-8` on vsock: ``served 5 of 8, expected 8; first: client/0"
    )
    assert told[1].startswith("- ❌ `tests/test_x.py::test_y`: ``<img")
    assert told[2].startswith("- 💥 `multiple-clients-8` on virtconsole: ``<img")
    assert told[3] == "- ⚪ `serial-stale-reply` on virtconsole not run"
    assert told[4].startswith("- ⏭️ `multiple-clients-8` on isa-serial skipped: ``qemu-device: <img")
    assert len(told) == 5


def test_what_a_guest_said_stands_in_code_only(tmp_path: Path) -> None:
    text = markdown.markdown(runs.mixed(tmp_path))
    said = " ".join(shown(runs.HOSTILE).split())
    assert text.count(said) >= 4
    assert said not in SPAN.sub("", text)
    assert "<" not in SPAN.sub("", text)


@pytest.mark.parametrize("text", ["a", "`", "``a`", "a`` b", "", "\n", "a\n\nb", "x" * 10_000])
def test_a_code_span_holds_anything_in_one_line(text: str) -> None:
    made = markdown.code(text)
    found = SPAN.fullmatch(made)
    assert found
    assert "\n" not in made
    assert found[2].strip() == " ".join(text[:298].split()) + (" …" if len(text) > 300 else "")


def test_many_failures_are_counted(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    cases = [runs.case(on_link, CaseOutcome.ERROR, f"ERROR number {number}") for number in range(200)]
    text = markdown.markdown(runs.write(tmp_path, cases))
    assert text.count("\n- 💥") == markdown.MOST + 1
    assert f"- 💥 and {200 - markdown.MOST} more" in text
    assert len(text) < 5000


def test_a_run_without_scenarios_has_no_table(tmp_path: Path) -> None:
    text = markdown.markdown(runs.write(tmp_path, []))
    assert "|" not in text
    assert text.startswith("## ⚪ No tests (")


def test_a_green_run_is_short(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    case = runs.evidence(tmp_path, on_link, right(on_link))
    path = markdown.write(runs.write(tmp_path, [case]), tmp_path)
    assert path == tmp_path / "summary.md"
    text = path.read_text()
    assert text.startswith("## ✅ 1 passed (")
    assert "- " not in text.replace("---", "")


def test_a_run_that_was_cut_off_is_not_green(tmp_path: Path) -> None:
    on_link = plan("pod-diagram", "vsock")
    runs.evidence(tmp_path, on_link, right(on_link))
    text = markdown.markdown(reading.read(tmp_path))
    assert text.startswith("## ⚪ Cut off; 1 passed so far (")
    assert "run.json is missing: the run was cut off" in text
    (tmp_path / "run.json").write_text('{"cases": ')
    text = markdown.markdown(reading.read(tmp_path))
    assert "run.json is torn: the run was cut off" in text
    assert "missing" not in text


def test_torn_evidence_of_what_passed_is_said_at_the_top(tmp_path: Path) -> None:
    links = ("vsock", "virtio-serial", "virtconsole", "isa-serial")
    cases = []
    for link in links:
        on_link = plan("pod-diagram", link)
        cases.append(runs.evidence(tmp_path, on_link, right(on_link)))
        (tmp_path / f"pod-diagram-{link}" / "trace.jsonl").write_bytes(b"\xff\xfe")
    text = markdown.markdown(runs.write(tmp_path, cases))
    assert text.startswith("## ✅ All 4 passed (")
    assert "Evidence of 4 tests can't be read: pod-diagram-" in text
    assert " and 1 more." in text


def test_who_left_when_all_had_ended_has_not_ended_the_run(tmp_path: Path) -> None:
    stale = plan("serial-stale-reply", "vsock")
    passed = runs.evidence(tmp_path, stale, right(stale))
    never = runs.case(plan("pod-diagram", "vsock"), CaseOutcome.NOT_RUN, "the run ended before it")
    whole = markdown.markdown(runs.write(tmp_path, [passed], exit_code=PIPE_CLOSED))
    assert "**`Whoever read the run's output left when all tests had ended.`**" in whole
    assert "which ended the run" not in whole
    cut = markdown.markdown(runs.write(tmp_path, [passed, never], exit_code=PIPE_CLOSED))
    assert "**`Whoever read the run's output left, which ended the run.`**" in cut
