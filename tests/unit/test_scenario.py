"""Our scenario files load, and what a file says arrives in the plan."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.expect import Bounds, Word
from harness.model.link import Link
from harness.model.plan import Boot, Connection, Initiated, Plan, Schedule
from harness.model.scenario import load
from harness.model.size import parse_size
from harness.model.steps import (
    AskAndLeave,
    Connect,
    Containers,
    Echo,
    Finish,
    Leave,
    Messages,
    Moment,
    OpenDevice,
    Ping,
    Receive,
    Run,
    Send,
    Shutdown,
    SocketType,
    Start,
    StopReading,
    Target,
    WaitFor,
)
from tests.unit.mistakes import FLAT
from tests.unit.traces import SCENARIOS

FILES = sorted(SCENARIOS.glob("*.yaml"))

EVERYTHING = """\
title: Everything that a file can say
claim: reliability
about: >
  two
  lines
links: [isa-serial, vsock]
boot: cold
schedule: sequential
drain: true
clients:
  one:
    count: {default: 3, isa-serial: 2}
    connection: {default: own, isa-serial: shared}
    initiated: {default: host, vsock: guest}
    workload:
      - echo: {bytes: {default: 2MiB, isa-serial: 10}, times: {default: 2, isa-serial: 1}}
      - ping: {}
      - ping: {times: 7}
      - send: {bytes: 64KiB}
      - receive: {bytes: 1GiB}
      - run: {argv: [sh, -c, "exit 3"], stdin: "on", stdout: yes, exit: 3}
      - run: {argv: [cat]}
      - start: {name: c, argv: [cat]}
      - finish: {name: c, stderr: "", signal: SIGTERM}
      - open-device: {}
      - containers: {running: {vsock: 2, isa-serial: 0}}
      - leave: {}
  two:
    after: one
    workload:
      - wait-for: {group: one, event: ended}
      - stop-reading: {bytes: 8MiB}
  three:
    workload: [ask-and-leave: {bytes: 1MiB}]
expect:
  vsock: {one: {served: 3}, two: {served: {max: 1}, lost: {min: 0}}, three: {waiting: 1}}
  isa-serial:
    served: {min: 1, max: 4}
    intact: 1
    waited: 0
    stale: {max: 4}
    facts: {one: {second-open: EBUSY}}
"""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "all-of-it.yaml"
    path.write_text(EVERYTHING)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_files_load(path: Path) -> None:
    scenario = load(path)
    assert scenario.name == path.stem
    assert path.stem.startswith(scenario.claim.value) or scenario.claim is Claim.SERIAL_ONE_PROCESS
    assert scenario.about
    assert path.read_text().startswith("# yaml-language-server: $schema=scenario.schema.json\n")
    for link in scenario.links:
        plan = scenario.for_link(link)
        assert plan.link is link
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_slow_links_carry_little(path: Path) -> None:
    """115200 baud are 11 KiB a second, and an echo goes both ways: ten seconds are 100 KiB."""
    scenario = load(path)
    if Link.ISA_SERIAL not in scenario.links:
        return
    groups = scenario.for_link(Link.ISA_SERIAL).groups
    sharing = [group.count if group.connection is Connection.SHARED else 1 for group in groups]
    moved = sum(
        getattr(step, "bytes", 0) * getattr(step, "times", 1) * factor * (2 if step.op == "echo" else 1)
        for group, factor in zip(groups, sharing, strict=True)
        for step in group.workload
    )
    assert moved <= 100 << 10


def test_the_catalogue_names_each_file_and_nothing_else() -> None:
    text = (SCENARIOS / "README.md").read_text()
    named = {word.strip("`") for word in text.split() if word.startswith("`") and word.endswith(".yaml`")}
    assert named == {path.name for path in FILES}


def test_what_a_file_says(everything: Path) -> None:
    scenario = load(everything)
    assert (scenario.name, scenario.title) == ("all-of-it", "Everything that a file can say")
    assert scenario.about == "two lines"
    assert scenario.claim is Claim.RELIABILITY
    assert scenario.links == (Link.ISA_SERIAL, Link.VSOCK)
    plan = scenario.for_link(Link.VSOCK)
    assert (plan.scenario, plan.boot, plan.schedule, plan.drain) == (
        "all-of-it",
        Boot.COLD,
        Schedule.SEQUENTIAL,
        True,
    )
    assert plan.clients == ("one/0", "one/1", "one/2", "two/0", "three/0")
    one, two, three = plan.groups
    assert one.workload == (
        Echo(bytes=2 << 20, times=2),
        Ping(times=1),
        Ping(times=7),
        Send(bytes=64 << 10),
        Receive(bytes=1 << 30),
        Run(argv=("sh", "-c", "exit 3"), stdin="on", stdout="yes", exit=3),
        Run(argv=("cat",), exit=0),
        Start(name="c", argv=("cat",)),
        Finish(name="c", stderr="", signal="SIGTERM"),
        OpenDevice(),
        Containers(running=2),
        Leave(),
    )
    assert (one.after, one.connection, one.initiated) == (None, Connection.OWN, Initiated.GUEST)
    assert two.after == "one"
    assert two.workload == (WaitFor(group="one", event=Moment.ENDED), StopReading(bytes=8 << 20))
    assert three.workload == (AskAndLeave(bytes=1 << 20),)


def test_values_per_link(everything: Path) -> None:
    group = load(everything).for_link(Link.ISA_SERIAL).groups[0]
    assert group.count == 2
    assert group.connection is Connection.SHARED
    assert group.initiated is Initiated.HOST
    assert group.workload[0] == Echo(bytes=10, times=1)
    assert group.workload[-2] == Containers(running=0)


def test_expectations_are_filled_in(everything: Path) -> None:
    scenario = load(everything)
    by_group = scenario.for_link(Link.VSOCK).expect
    none = Bounds(min=0, max=0)
    assert by_group.totals is None
    assert by_group.groups is not None
    assert by_group.groups["two"] == {
        Word.SERVED: Bounds(max=1),
        Word.LOST: Bounds(),
        Word.WAITING: none,
        Word.REFUSED: none,
        Word.GARBLED: none,
        Word.STALE: none,
    }
    totals = scenario.for_link(Link.ISA_SERIAL).expect
    assert totals.groups is None
    assert totals.totals is not None
    assert totals.totals[Word.INTACT] == Bounds(min=1, max=1)
    assert totals.totals[Word.WAITED] == none
    assert totals.totals[Word.STALE] == Bounds(max=4)
    assert totals.facts == {"one": {"second-open": "EBUSY"}}


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (SCENARIOS.parent / "docs" / "scenarios.md").read_text()
    path = tmp_path / "example.yaml"
    path.write_text(text.split("```yaml\n", 1)[1].split("```", 1)[0])
    assert load(path).for_link(Link.VIRTIO_SERIAL).groups[0].workload == (Echo(bytes=1 << 20),)


def test_a_scenario_of_ones_own_names_no_claim(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FLAT.replace("claim: multiple-clients\n", ""))
    assert load(path).claim is Claim.OTHER


def test_a_number_of_clients_is_one_group() -> None:
    plan = load(SCENARIOS / "serial-second-opener.yaml").for_link(Link.VSOCK)
    assert [group.name for group in plan.groups] == ["client"]
    assert plan.clients == ("client/0",)


def test_a_link_that_the_scenario_does_not_name() -> None:
    scenario = load(SCENARIOS / "multiple-clients-stalled.yaml")
    with pytest.raises(UsageError, match=r"does not run on link 'isa-serial'; allowed: vsock, virtio-serial"):
        scenario.for_link(Link.ISA_SERIAL)


@pytest.mark.parametrize(
    ("text", "size"), [(7, 7), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("0KiB", 0)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "1", "1MB", "-1KiB", "1.5MiB", "１KiB", "1 KiB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_bounds() -> None:
    assert [count in Bounds(min=1, max=2) for count in range(4)] == [False, True, True, False]
    assert 10**9 in Bounds()
    assert [str(b) for b in (Bounds(min=2, max=2), Bounds(min=2), Bounds(max=2), Bounds(min=1, max=2))] == [
        "2",
        "at least 2",
        "at most 2",
        "1 to 2",
    ]


def test_steps_of_sockets(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        """\
title: T
claim: reliability
links: [vsock]
seqpacket: false
clients: 1
workload:
  - connect: {to: listening}
  - connect: {to: no-vm, type: seqpacket, fails: [ETIMEDOUT, EHOSTUNREACH]}
  - connect: {to: refusing, type: dgram, fails: ENODEV}
  - messages: {bytes: 1KiB, times: 3}
  - shutdown: {bytes: 1KiB, type: seqpacket}
expect:
  vsock: {served: 1}
"""
    )
    plan = load(path).for_link(Link.VSOCK)
    assert not plan.seqpacket
    assert plan.groups[0].workload == (
        Connect(to=Target.LISTENING),
        Connect(to=Target.NO_VM, type=SocketType.SEQPACKET, fails=("ETIMEDOUT", "EHOSTUNREACH")),
        Connect(to=Target.REFUSING, type=SocketType.DGRAM, fails=("ENODEV",)),
        Messages(bytes=1024, times=3),
        Shutdown(bytes=1024, type=SocketType.SEQPACKET),
    )


def test_errnos_per_link_and_kernel(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        """\
title: T
claim: reliability
links: [vsock]
clients: 1
workload:
  - connect: {to: no-vm, fails: {vsock: {linux: "7.2", before: [ETIMEDOUT, EPIPE], since: EHOSTUNREACH}}}
expect:
  vsock: {served: 1}
"""
    )
    plan = load(path).for_link(Link.VSOCK)
    older, newer = (
        plan.on_kernel(release, "6.12").groups[0].workload[0] for release in ("6.12.1-cloud", "7.2")
    )
    assert older == Connect(to=Target.NO_VM, fails=("ETIMEDOUT", "EPIPE"))
    assert newer == Connect(to=Target.NO_VM, fails=("EHOSTUNREACH",))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_errnos_per_link(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        """\
title: T
claim: reliability
links: [vsock, hybrid-vsock]
clients: 1
workload:
  - connect: {to: refusing, fails: {default: [ECONNRESET, EPIPE], hybrid-vsock: ETIMEDOUT}}
expect:
  vsock: {served: 1}
  hybrid-vsock: {served: 1}
"""
    )
    steps = {link: load(path).for_link(link).groups[0].workload[0] for link in load(path).links}
    assert steps == {
        Link.VSOCK: Connect(to=Target.REFUSING, fails=("ECONNRESET", "EPIPE")),
        Link.HYBRID_VSOCK: Connect(to=Target.REFUSING, fails=("ETIMEDOUT",)),
    }
