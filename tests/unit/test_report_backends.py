"""The two backends of vsock in the report: only what ran on both, and a difference is shown as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report import html, markdown
from harness.report.backends import OPEN, PAIR, Compared, Line, compared, rows
from harness.report.results import Case, CaseOutcome, Shown
from tests.unit import runs
from tests.unit.systems import late, met_as, slow, untold
from tests.unit.traces import one_at_a_time, plan, right


def shown(link: Link, seen: str, outcome: CaseOutcome = CaseOutcome.PASSED) -> Case:
    name = f"scenarios/test_x.py::test_large[{link}]"
    return Case(id=name, outcome=outcome, shown=Shown(claim=Claim.RELIABILITY, link=link, seen=seen))


def test_what_ran_on_both_is_compared_and_differences_come_first(tmp_path: Path) -> None:
    eight, stale = "multiple-clients-8", "serial-stale-reply"
    worse = plan(eight, "hybrid-vsock")
    cases = [
        runs.evidence(tmp_path, plan(stale, "vsock"), right(plan(stale, "vsock"))),
        runs.evidence(tmp_path, plan(stale, "hybrid-vsock"), right(plan(stale, "hybrid-vsock"))),
        runs.evidence(tmp_path, plan(eight, "vsock"), right(plan(eight, "vsock"))),
        runs.evidence(tmp_path, worse, one_at_a_time(worse)),
        runs.evidence(tmp_path, plan("pod-diagram", "vsock"), right(plan("pod-diagram", "vsock"))),
        shown(Link.VSOCK, "no write is lost"),
        shown(Link.HYBRID_VSOCK, "64 KiB are lost"),
        shown(Link.VIRTIO_SERIAL, "other"),
    ]
    results = runs.write(tmp_path, cases, (eight, stale, "pod-diagram"))
    found = compared(results)
    assert [(row.name, row.differs) for row in found] == [
        (eight, True),
        ("test_x.py::test_large", True),
        (stale, False),
    ]
    lost = Line("", ("no write is lost",), ("64 KiB are lost",))
    assert found[1] == Compared("test_x.py::test_large", (lost,))
    page = html.page(results)
    assert "3 ran on both; 2 saw something else." in page
    assert "vhost-user-vsock-pci (hybrid-vsock)" in page
    assert "<strong>≠\u00a064 KiB are lost</strong>" in page
    assert f"The same on both: {stale}." in page
    facts = (tmp_path / f"{eight}-hybrid-vsock/facts.json").read_text()
    assert '"backend": "vhost-user-vsock-pci"' in facts


def test_the_summary_says_what_differs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eight, stale = "multiple-clients-8", "serial-stale-reply"
    worse = plan(eight, "hybrid-vsock")
    same = [runs.evidence(tmp_path, plan(stale, link), right(plan(stale, link))) for link in PAIR]
    cases = [
        *same,
        runs.evidence(tmp_path, plan(eight, "vsock"), right(plan(eight, "vsock"))),
        runs.evidence(tmp_path, worse, one_at_a_time(worse)),
        shown(Link.VSOCK, "no write is lost | or"),
        shown(Link.HYBRID_VSOCK, "64 KiB are lost"),
    ]
    text = markdown.markdown(runs.write(tmp_path, cases, (eight, stale)))
    part = text.partition("### Backends of vsock")[2].partition("More: ")[0]
    assert [line for line in part.splitlines() if line] == [
        "3 ran on both; 2 saw something else.",
        "| scenario or test | clients | vhost-vsock-pci (vsock) | vhost-user-vsock-pci (hybrid-vsock) |",
        "| --- | --- | --- | --- |",
        "| `multiple-clients-8` | all | `served 8, intact 8` | `served 1, intact 1, waiting 7` |",
        "| `test_x.py::test_large` | all | `no write is lost \\| or` | `64 KiB are lost` |",
    ]
    monkeypatch.setattr(markdown, "GROUPS", 1)
    cut = markdown.markdown(runs.write(tmp_path, cases, (eight, stale)))
    assert "waiting 7` |\n\nAnd 1 more groups.\n" in cut
    killed = "reliability-unplugged"
    deaths = [runs.evidence(tmp_path, plan(killed, link), right(plan(killed, link))) for link in PAIR]
    monkeypatch.setattr(markdown, "GROUPS", 9)
    told = markdown.markdown(runs.write(tmp_path, deaths, (killed,)))
    assert f"| `{killed}` | `sending` | `sees ECONNRESET` | `sees EPIPE` |" in told  # not what both saw
    alike = markdown.markdown(runs.write(tmp_path, same, (stale,)))
    assert "### Backends of vsock\n\n1 saw the same.\n" in alike
    assert "### Backends" not in markdown.markdown(runs.write(tmp_path, same[:1], (stale,)))


def test_how_long_something_took_is_no_difference(tmp_path: Path) -> None:
    """Facts beside it are compared all the same."""
    killed, flood = "reliability-agent-killed", "multiple-clients-flood-small"
    cases = [
        *(
            runs.evidence(tmp_path, plan(killed, link), late("idle/0", "host", took)(plan(killed, link)))
            for link, took in (("vsock", 0.1), ("hybrid-vsock", 0.02))
        ),
        *(
            runs.evidence(tmp_path, plan(flood, link), slow(talkers=times)(plan(flood, link)))
            for link, times in (("vsock", 400.0), ("hybrid-vsock", 2.0))
        ),
    ]
    found = {row.name: row for row in compared(runs.write(tmp_path, cases))}
    assert {name: row.differs for name, row in found.items()} == {killed: False, flood: False}
    said = {line.part: line.one for line in found[killed].lines}
    assert "sees eof" in said["idle"]
    assert not [text for texts in said.values() for text in texts if "notice" in text]


def test_what_is_expected_of_one_backend_only_is_seen_on_both(tmp_path: Path) -> None:
    """On vsock a scenario says how the guest hears of the shim's death, on hybrid-vsock it does not."""
    killed = "reliability-receiving-shim-killed"
    plans = [plan(killed, link) for link in PAIR]
    assert [on.expect.facts.get("victim", {}).keys() for on in plans] == [{"guest", "containers"}, set()]
    cases = [runs.evidence(tmp_path, on, right(on)) for on in plans]
    (row,) = compared(runs.write(tmp_path, cases, (killed,)))
    assert (row.differs, row.left_open) == (False, ())
    assert next(line.one for line in row.lines if line.part == "victim")[-2:] == (
        "guest eof",
        "containers gone",
    )


def test_what_scenarios_leave_open_is_told_apart(tmp_path: Path) -> None:
    killed = "reliability-shim-killed"
    plans = [plan(killed, link) for link in PAIR]
    system = met_as("sending/0", **{"next-send": "blocked"})
    cases = [runs.evidence(tmp_path, on, made(on)) for on, made in zip(plans, (system, right), strict=True)]
    results = runs.write(tmp_path, cases, (killed,))
    (row,) = compared(results)
    assert not row.differs
    assert "sending" not in [line.part for line in row.lines]
    assert row.left_open == (Line("sending", ("next-send blocked or ok",), ("next-send ok",)),)
    count = "1 ran on both; 0 saw something else, 1 more only in what scenarios leave open."
    page, text = html.page(results), markdown.markdown(results)
    assert count in page
    assert count in text
    assert "<strong>next-send blocked or ok</strong>" in page.partition(f"<h3>{OPEN}")[2]
    assert "The same on both" not in page
    told = text.partition(f"#### {OPEN}\n")[2]
    assert f"| `{killed}` | `sending` | `next-send blocked or ok` | `next-send ok` |" in told


def test_what_one_backend_says_nothing_of_is_a_difference(tmp_path: Path) -> None:
    """Of what is expected; else it is left open."""
    killed = "reliability-shim-killed"
    vsock, hybrid = (plan(killed, link) for link in PAIR)
    for name, differs in (("then", True), ("next-send", False)):
        folder = tmp_path / name
        cases = [
            runs.evidence(folder, vsock, right(vsock)),
            runs.evidence(folder, hybrid, untold("receiving/0", name)(hybrid)),
        ]
        (row,) = compared(runs.write(folder, cases, (killed,)))
        assert (row.differs, bool(row.left_open)) == (differs, not differs)


def test_of_who_met_a_fault_only_what_differs_stands_out() -> None:
    """Two of three groups see the same on both; of the third, what both saw is not marked."""
    row = Compared(
        "dies",
        (
            Line("idle", ("sees ECONNRESET", "then gone"), ("sees eof", "then gone")),
            Line("sending", ("sees EPIPE",), ("sees EPIPE",)),
            Line("beside", ("sees nothing",), ("sees nothing",)),
        ),
    )
    said = str(rows(row.name, row.lines))
    assert "<td><strong>sees ECONNRESET</strong>, then gone" in said
    assert "<td><strong>≠\u00a0sees eof</strong>, then gone" in said
    assert "alike: sending, beside" in said
    assert "sees nothing" not in said


def test_who_was_there_on_one_backend_only_is_shown_so() -> None:
    said = str(rows("dies", [Line("late", ("served 1",), ())]))
    assert "<strong>served 1</strong>" in said
    assert "<td>·" in said


def test_all_alike_is_said_and_one_backend_alone_is_no_section(tmp_path: Path) -> None:
    stale = "serial-stale-reply"
    one = runs.evidence(tmp_path, plan(stale, "vsock"), right(plan(stale, "vsock")))
    skipped = shown(Link.HYBRID_VSOCK, "x", CaseOutcome.SKIPPED)
    alone = runs.write(tmp_path, [one, skipped, shown(Link.VSOCK, "x")], (stale,))
    assert compared(alone) == []
    assert "id=backends " not in html.page(alone)
    other = runs.evidence(tmp_path, plan(stale, "hybrid-vsock"), right(plan(stale, "hybrid-vsock")))
    assert "1 saw the same." in html.page(runs.write(tmp_path, [one, other], (stale,)))


def test_every_link_names_its_backend() -> None:
    assert all(link.backend for link in Link)
    assert Link.VSOCK.backend != Link.HYBRID_VSOCK.backend
