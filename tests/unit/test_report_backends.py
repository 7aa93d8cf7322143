"""The two backends of vsock in the report: only what ran on both, and a difference is shown as one."""

from __future__ import annotations

from pathlib import Path

from harness.model.claims import Claim
from harness.model.link import Link
from harness.report import html
from harness.report.backends import Compared, compared
from harness.report.results import Case, CaseOutcome, Shown
from tests.unit import runs
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
    assert found[1] == Compared("test_x.py::test_large", "no write is lost", "64 KiB are lost")
    page = html.page(results)
    assert "3 ran on both; 2 saw something else." in page
    assert "vhost-user-vsock-pci (hybrid-vsock)" in page
    assert "<strong class=off>≠ 64 KiB are lost</strong>" in page
    facts = (tmp_path / f"{eight}-hybrid-vsock/facts.json").read_text()
    assert '"backend": "vhost-user-vsock-pci"' in facts


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
