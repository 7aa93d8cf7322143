"""Results folders as runs leave them: traces of known systems, judged by the real judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec.structs import replace

from harness.guest.client import Hello
from harness.judge import judge
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.spec import Accel
from harness.model.trace import Event, What
from harness.report import reading, results
from harness.report.results import About, Case, CaseOutcome, Run, Subject, Versions
from harness.run import record
from tests.unit.telling import Telling
from tests.unit.traces import SCENARIOS, loaded, plan, right

HOSTILE = "<img src=x onerror=alert(1)></pre></script><script>alert(2)</script>\" x='1` | \x1b[31m\u202e"
"""What a guest might say."""

VERSIONS = Versions(
    harness="0.1.0",
    commit="0123456789ab+",
    python="3.11.2",
    kernel="6.1.0",
    pytest="9.0.0",
    images={"pod": "abc 6.12"},
)
HELLO = Hello(
    agent="a" * 64,
    version="1",
    python="3.13.5",
    kernel="6.12.1",
    boot_id="b",
    uptime=2.0,
    channel="vsock",
    wire=1,
)


def subject(on_link: Plan) -> Subject:
    """What the plan's item is about."""
    return Subject(scenario=on_link.scenario, claim=on_link.claim, link=on_link.link)


def case(on_link: Plan, outcome: CaseOutcome, text: str = "", **seconds: float) -> Case:
    """How the plan's item ended."""
    name = f"scenarios/{on_link.scenario}.yaml::{on_link.link}"
    return Case(id=name, outcome=outcome, text=text, seconds=seconds, subject=subject(on_link))


def evidence(folder: Path, on_link: Plan, trace: Sequence[Event], slowness: float = 10.4) -> Case:
    """What an item leaves in a run's `folder`, and its case: passed or failed as the judge says."""
    verdict = judge(on_link, trace)
    place: Any = SimpleNamespace(
        qemu=SimpleNamespace(version="10.0.3", argv=["qemu"]),
        accel=Accel.KVM,
        guest=SimpleNamespace(name="pod", id="0123"),
        notes=("net.vsock.g2h_fallback: is 1",),
    )
    about = record.facts(
        place, on_link.link, HELLO, "10.0.3", {"template": 33.5, "clone": 0.92, "hello": 0.5}, slowness
    )
    own = folder / f"{on_link.scenario}-{on_link.link}"
    record.write(own, on_link, trace, verdict, about)
    (own / "console.log").write_text("Linux version 6.12\n")
    (own / "qemu.stderr").touch()
    outcome = CaseOutcome(verdict.outcome.value)
    text = (
        "" if verdict.passed else f"FAIL {on_link.scenario} on {on_link.link}: {verdict.difference}\nhint: x"
    )
    return case(on_link, outcome, text, setup=35.0, call=4.5, teardown=0.25)


def write(folder: Path, cases: Iterable[Case], scenarios: Iterable[str] = (), **rest: Any) -> results.Results:
    """`run.json` and `versions.json` of these; the whole as it is read."""
    about = {name: About(title=loaded(name).title, about=loaded(name).about) for name in scenarios}
    settings = {
        "host": ("host: lab (kvm missing)",),
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 391.2,
    }
    results.write(
        folder, Run(**{**settings, "exit_code": 0, "scenarios": about, "cases": tuple(cases), **rest})
    )
    (folder / "versions.json").write_bytes(msgspec.json.encode(VERSIONS))
    return reading.read(folder)


def catalogue(folder: Path) -> results.Results:
    """All of our scenario files on each of their links but `hybrid-vsock`, as a lab runs them; all pass.

    Data moves in as many pieces as in a lab, and as many files are left.
    """
    names = [path.stem for path in sorted(SCENARIOS.glob("*.yaml"))]
    cases = []
    for name in names:
        for link in loaded(name).links:
            if link is Link.HYBRID_VSOCK:
                continue
            on_link = plan(name, link)
            cases.append(evidence(folder, on_link, in_pieces(right(on_link))))
            for file in ("qemu.cmdline", "qmp.jsonl", *(("proxy.log",) if link.is_proxied else ())):
                (folder / f"{name}-{link}" / file).write_text("x")
    return write(folder, cases, names)


def in_pieces(trace: Sequence[Event]) -> list[Event]:
    """The trace with two events of progress before each answer that bytes were compared for."""
    found: list[Event] = []
    for event in trace:
        if event.what is What.ANSWERED and "bytes" in event.detail:
            moved = {"sent": 262144, "received": 131113}
            found += [
                replace(event, at=event.at - at, what=What.PROGRESS, detail=moved) for at in (0.006, 0.003)
            ]
        found.append(event)
    return found


def garbled(on_link: Plan) -> list[Event]:
    """The first client reads what a hostile guest sends; the second is refused; the third is lost."""
    first, second, third, *rest = on_link.clients
    op = on_link.groups[0].workload[0].op
    telling = Telling(on_link).connects(first).wrong(first, 0, "00", HOSTILE).leaves(first)
    telling.say(second, What.CONNECTING).say(second, What.REFUSED, errno=HOSTILE, error=HOSTILE)
    telling.connects(third).asks(third).say(third, What.PROGRESS, 0, op, sent=1, received=1)
    telling.say(third, What.LOST, 0, op, errno="EPIPE").connects(*rest)
    for client in rest:
        telling.works(client)
    return telling.ended(*rest).events


def mixed(folder: Path) -> results.Results:
    """A run with every outcome, and hostile text wherever a guest or a file's name can put some."""
    eight, stale = "multiple-clients-8", "serial-stale-reply"
    (folder / "lab0").mkdir()
    (folder / "lab0" / 'a"b <c>.log').write_text("x")
    cases = [
        evidence(folder, plan(eight, "virtio-serial"), right(plan(eight, "virtio-serial"))),
        evidence(folder, plan(eight, "vsock"), garbled(plan(eight, "vsock")), slowness=18.55),
        case(plan(eight, "virtconsole"), CaseOutcome.ERROR, f"ERROR {eight} on virtconsole: {HOSTILE}\nmore"),
        case(plan(eight, "isa-serial"), CaseOutcome.SKIPPED, f"qemu-device: {HOSTILE}"),
        evidence(folder, plan(stale, "vsock"), right(plan(stale, "vsock"))),
        evidence(folder, plan(stale, "isa-serial"), right(plan(stale, "isa-serial"))),
        case(plan(stale, "virtconsole"), CaseOutcome.NOT_RUN),
        Case(id=f"tests/test_x.py::test_x[{HOSTILE}]", outcome=CaseOutcome.PASSED, seconds={"call": 1.0}),
        Case(
            id="tests/test_x.py::test_y", outcome=CaseOutcome.FAILED, text=f"def test_y():\nE   {HOSTILE}\n"
        ),
    ]
    return write(folder, cases, (eight, stale), exit_code=2, notes=(f"lab1: {HOSTILE}",))
