"""Plans with real client processes against real agents: one as over vsock, one as behind a serial port."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from harness.agent.seeded import stream
from harness.model.plan import Connection, Schedule
from harness.model.steps import (
    AskAndLeave,
    Containers,
    Echo,
    Finish,
    Leave,
    Moment,
    OpenDevice,
    Ping,
    Receive,
    Run,
    Send,
    Start,
    Step,
    StopReading,
    WaitFor,
)
from harness.model.trace import Event, What
from harness.run.nursery import Nursery
from harness.run.patience import HUNG
from harness.run.roster import Trace
from harness.run.steps import seed_for
from tests.unit.running import BRISK, ends, group, of, only, plan, run


def quick(trace: Trace) -> bool:
    """Whether it ended by patience, long before the system would have been called hung."""
    return trace[-1].at - trace[0].at < HUNG * BRISK / 2


EIGHT = plan(group("client", Echo(bytes=256 * 1024), count=8))


def test_eight_clients_are_served_at_once(nursery: Nursery, many: Path) -> None:
    trace = run(EIGHT, many, nursery)
    assert ends(trace) == {"served": 8}
    holding = [event.at for event in trace if event.what is What.HOLDING]
    ended = [event.at for event in trace if event.what is What.ENDED]
    assert len(holding) == len(ended) == 8
    assert max(holding) < min(ended), "they hold together"


def test_eight_clients_of_a_serial_port_wait_but_one(nursery: Nursery, serial: Path) -> None:
    trace = run(EIGHT, serial, nursery, slowness=BRISK)
    assert ends(trace) == {"served": 1, "waiting": 7}
    assert len([event for event in trace if event.what is What.PINGED]) >= 3
    waiting = [event for event in trace if event.what is What.ENDED and event.detail["doing"] != "holding"]
    assert {str(event.detail["doing"]) for event in waiting} == {"connect", "echo"}
    assert quick(trace)


def test_draining_serves_those_who_waited_one_by_one(nursery: Nursery, serial: Path) -> None:
    drained = plan(group("client", Echo(bytes=64 * 1024), count=4), drain=True)
    trace = run(drained, serial, nursery, slowness=BRISK)
    assert ends(trace) == {"served": 4}
    held = [event.client for event in trace if event.what is What.HOLDING]
    left = [event.client for event in trace if event.what is What.LEFT]
    assert held == left
    assert len(left) == 4
    for before, after in itertools.pairwise(left):
        assert only(trace, before, What.LEFT).at < only(trace, after, What.ANSWERED).at


def test_draining_a_link_for_many_lets_all_leave(nursery: Nursery, many: Path) -> None:
    seen: list[Event] = []
    trace = run(plan(group("client", Ping(), count=4), drain=True), many, nursery, on_event=seen.append)
    arrived = [event.client for event in seen if event.what is What.HOLDING]
    held = [event for event in trace if event.what is What.HOLDING]
    left = [event for event in trace if event.what is What.LEFT]
    assert len(left) == 4
    assert held[-1].at < left[0].at
    assert [event.client for event in left] == arrived


@pytest.mark.parametrize("port", ["many", "serial"])
def test_a_sequence_has_one_client_at_a_time(
    nursery: Nursery, port: str, request: pytest.FixtureRequest
) -> None:
    sequence = plan(
        group("a", Echo(bytes=1000), count=3), group("b", Ping(times=2)), schedule=Schedule.SEQUENTIAL
    )
    trace = run(sequence, request.getfixturevalue(port), nursery)
    assert ends(trace) == {"served": 4}
    order = [(event.client, event.what) for event in trace if event.what in (What.CONNECTED, What.LEFT)]
    assert order == [(c, w) for c in ("a/0", "a/1", "a/2", "b/0") for w in (What.CONNECTED, What.LEFT)]
    assert not [event for event in trace if event.what is What.HOLDING]


STALE = plan(group("gone", AskAndLeave(bytes=100)), group("next", Echo(bytes=1000), after="gone"), drain=True)


def test_a_serial_port_hands_a_reply_to_the_next_client(nursery: Nursery, serial: Path) -> None:
    trace = run(STALE, serial, nursery)
    assert ends(trace, "gone") == {"served": 1}
    assert ends(trace, "next") == {"stale": 1}


def test_a_connection_of_its_own_never_has_a_stale_reply(nursery: Nursery, many: Path) -> None:
    assert ends(run(STALE, many, nursery)) == {"served": 2}


STALLED = plan(
    group("stalled", StopReading(bytes=8 << 20)),
    group("others", Echo(bytes=64 * 1024), count=4, after="stalled"),
)


def test_one_that_stops_reading_stalls_a_serial_port(nursery: Nursery, serial: Path) -> None:
    trace = run(STALLED, serial, nursery, slowness=BRISK)
    assert ends(trace, "others") == {"waiting": 4}
    assert only(trace, "stalled/0", What.HOLDING).detail == {"pings": False}
    assert quick(trace)


def test_one_that_stops_reading_stalls_nobody_else(nursery: Nursery, many: Path) -> None:
    trace = run(STALLED, many, nursery)
    assert ends(trace) == {"served": 5}
    held = only(trace, "stalled/0", What.HOLDING).at
    assert held < min(event.at for event in of(trace, "others/0"))


def test_two_writers_on_one_connection_garble(nursery: Nursery, serial: Path) -> None:
    shared = plan(group("writer", Echo(bytes=256 * 1024), count=2, connection=Connection.SHARED))
    trace = run(shared, serial, nursery, slowness=BRISK)
    assert ends(trace) == {"wrong": 2}
    assert only(trace, "writer/1", What.CONNECTED).detail == {"shared": True}
    assert not [event for event in trace if event.client == "writer/1" and event.what is What.CONNECTING]


def test_one_writer_on_a_shared_connection_does_not(nursery: Nursery, serial: Path) -> None:
    alone = plan(group("writer", Echo(bytes=256 * 1024), connection=Connection.SHARED))
    # a busy machine may let it say nothing for a second: it is not to be taken for one that waits
    assert ends(run(alone, serial, nursery, slowness=20.0)) == {"served": 1}


def test_sharers_are_refused_with_their_opener(nursery: Nursery, tmp_path: Path) -> None:
    shared = plan(group("writer", Ping(), count=3, connection=Connection.SHARED))
    trace = run(shared, tmp_path / "missing", nursery)
    assert ends(trace) == {"refused": 3}
    assert {event.detail["errno"] for event in trace if event.what is What.REFUSED} == {"ENOENT"}


def test_containers_are_the_clients_own(nursery: Nursery, many: Path) -> None:
    cat: tuple[Step, ...] = (
        Start(name="c", argv=("cat",)),
        WaitFor(group="observer", event=Moment.LEFT),
        Finish(name="c", stdin="mine", stdout="mine", stderr="", exit=0),
    )
    shims = plan(
        group("one", *cat),
        group("two", *cat),
        group("three", Start(name="s", argv=("sleep", "60")), Containers(running=3), Leave()),
        group("observer", Containers(running=2), Leave(), after="three"),
        group(
            "last", Containers(running=0), Run(argv=("sh", "-c", "kill -9 $$"), signal="SIGKILL"), after="two"
        ),
    )
    trace = run(shims, many, nursery)
    assert ends(trace) == {"served": 5}, trace
    one = [event for event in of(trace, "one/0") if event.what is not What.PINGED]
    assert one[-3].detail == {"exit": 0, "stdout": "'mine'", "stderr": "''"}
    assert only(trace, "observer/0", What.LEFT).at <= one[-4].at


@pytest.mark.parametrize(
    ("step", "expected", "seen"),
    [
        (Run(argv=("echo", "x"), stdout="y\n", exit=0), "stdout 'y\\n'", "'x\\n'"),
        (Run(argv=("sh", "-c", "echo no >&2; exit 3"), exit=0), "exit 0", "3; stderr 'no\\n'"),
        (Run(argv=("sh", "-c", "kill $$"), exit=0), "exit 0", "None"),
        (Run(argv=("/no/such/program",), exit=0), "container '/no/such/program'", "ENOENT"),
        (Start(name="c", argv=("/no/such/program",)), "container '/no/such/program'", "ENOENT"),
        (Containers(running=1), "1 containers running", "0"),
    ],
)
def test_what_differs_is_wrong(nursery: Nursery, many: Path, step: Step, expected: str, seen: str) -> None:
    trace = run(plan(group("client", step, Ping())), many, nursery, slowness=0.05)
    wrong = only(trace, "client/0", What.WRONG)
    assert wrong.detail["expected"] == expected
    assert seen in str(wrong.detail["seen"])
    assert of(trace, "client/0")[-1].what is What.LEFT
    assert only(trace, "client/0", What.ASKED).step == 0, "the step after it is not begun"


def test_data_goes_both_ways_and_is_the_same_each_time(nursery: Nursery, many: Path) -> None:
    both = plan(
        group("client", Echo(bytes=3000, times=2), Send(bytes=600_000), Receive(bytes=600_000), count=2)
    )
    first, second = run(both, many, nursery), run(both, many, nursery)
    details = [
        sorted((e.client, e.step, *e.detail.items()) for e in trace if e.what is What.ANSWERED)
        for trace in (first, second)
    ]
    assert details[0] == details[1]
    seed = seed_for("unit", "client/1", 0)
    data = b"".join(stream(seed, 3000, 1 << 20)) + b"".join(stream(seed + 1, 3000, 1 << 20))
    echoed = next(e for e in of(first, "client/1") if e.what is What.ANSWERED)
    assert echoed.detail == {"bytes": 6000, "sha256": hashlib.sha256(data).hexdigest()[:16], "seed": seed}
    moved = [e for e in of(first, "client/0") if e.what is What.PROGRESS]
    assert {e.step for e in moved} == {0, 1, 2}
    assert all(e.bytes == int(e.detail["sent"] or 0) + int(e.detail["received"] or 0) for e in moved)
    assert len({seed_for("unit", c, s) for c in ("client/0", "client/1") for s in range(9)}) == 18


def test_the_second_open_is_a_fact(nursery: Nursery, many: Path) -> None:
    trace = run(plan(group("client", OpenDevice())), many, nursery)
    assert only(trace, "client/0", What.FACT).detail == {"second-open": "no-device"}


@pytest.mark.parametrize("event", list(Moment))
def test_wait_for_waits(nursery: Nursery, many: Path, event: Moment) -> None:
    waiting = plan(
        group("late", WaitFor(group="early", event=event), Ping()),
        group("early", Echo(bytes=100_000, times=5), Leave(), count=2),
    )
    trace = run(waiting, many, nursery)
    assert ends(trace) == {"served": 3}
    let_go = next(e for e in of(trace, "late/0") if e.what is What.ANSWERED)
    assert let_go.op == "wait-for"
    assert let_go.at > max(e.at for e in trace if e.what is What.LEFT and e.client.startswith("early"))


NEVER = (
    group("late", WaitFor(group="early", event=Moment.LEFT), Ping()),
    group("early", Ping()),
    group("last", Ping(), after="late"),
)


def test_what_cannot_come_ends_at_once(nursery: Nursery, many: Path) -> None:
    trace = run(plan(*NEVER), many, nursery, slowness=50.0)
    assert only(trace, "late/0", What.ENDED).detail == {"doing": "waits for early: left"}
    assert only(trace, "last/0", What.ENDED).detail == {"doing": "not started"}


def test_draining_lets_it_come(nursery: Nursery, many: Path) -> None:
    assert ends(run(plan(*NEVER, drain=True), many, nursery)) == {"served": 3}


def test_fifty_clients(nursery: Nursery, many: Path) -> None:
    seen: list[Event] = []
    trace = run(plan(group("client", Echo(bytes=4096), count=50)), many, nursery, on_event=seen.append)
    assert ends(trace) == {"served": 50}
    assert sorted(seen, key=lambda event: event.at) == list(trace)
    assert len({event.detail["pid"] for event in trace if event.what is What.STARTED}) == 50


def test_containers_are_waited_for_as_long_as_the_step_says(nursery: Nursery, many: Path) -> None:
    trace = run(plan(group("client", Containers(running=1, within=1))), many, nursery)
    wrong = only(trace, "client/0", What.WRONG)
    assert (wrong.detail["expected"], wrong.detail["seen"]) == ("1 containers running", "0")
    asked = next(event.at for event in trace if event.what is What.ASKED)
    assert 1.0 <= wrong.at - asked < 8.0, "not 10 s"
