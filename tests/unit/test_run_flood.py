"""Floods, run against real agents without a VM."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
from pathlib import Path

import pytest

from harness.judge.paces import paces
from harness.model.plan import Schedule
from harness.model.steps import Flood, Leave, Moment, Ping, WaitFor, Way
from harness.model.trace import Event, What
from harness.run.client import PROGRESS_EVERY
from harness.run.nursery import Nursery
from harness.run.tap import BURST, Tap
from tests.unit.running import BRISK, ends, group, of, only, plan, run

ENDLESS = 1 << 40


@pytest.mark.parametrize("way", Way)
def test_a_flood_goes_on_while_others_talk_and_ends_with_them(nursery: Nursery, many: Path, way: Way) -> None:
    what = plan(
        group("alone", Ping(times=10), Leave(), count=2),
        group("flood", Flood(bytes=ENDLESS, way=way), after="alone"),
        group("beside", Ping(times=30), count=2, after="flood"),
    )
    trace = run(what, many, nursery)
    assert ends(trace) == {"served": 5}
    flood = of(trace, "flood/0")
    assert only(trace, "flood/0", What.HOLDING).detail == {"pings": False}
    assert flood[-1].what is What.ENDED
    assert not [event for event in flood if event.detail.get("through")]
    begun = only(trace, "flood/0", What.HOLDING).at
    asked = [event.at for event in trace if event.client.startswith("beside") and event.what is What.ASKED]
    assert begun < min(asked)
    alone, loaded = (pace for pace in paces(what, trace) if pace.trips)
    assert (len(alone.trips), len(loaded.trips)) == (20, 60)
    moved = [event for event in flood if event.what is What.PROGRESS]
    assert moved[-1].detail["sent" if way is Way.SEND else "received"]
    last = max(event.at for event in trace if event.client.startswith("beside") and event.trips)
    assert moved[-1].at > last, "it moves bytes while they talk, and still does when they are done"


@pytest.mark.parametrize("way", Way)
def test_a_flood_of_small_writes(nursery: Nursery, many: Path, way: Way) -> None:
    what = plan(
        group("flood", Flood(bytes=200_000, way=way, piece=16)),
        group("next", Ping()),
        schedule=Schedule.SEQUENTIAL,
    )
    trace = run(what, many, nursery)
    assert ends(trace) == {"served": 2}
    last = [event for event in of(trace, "flood/0") if event.what is What.PROGRESS][-1]
    assert last.detail["through"] is True


def test_one_in_small_writes_tells_often_that_it_moves(nursery: Nursery, many: Path) -> None:
    flood = group("flood", Flood(bytes=ENDLESS, piece=1))
    trace = run(plan(flood, group("beside", Ping(times=30), after="flood")), many, nursery)
    told = [event.bytes for event in of(trace, "flood/0") if event.what is What.PROGRESS]
    apart = [later - before for before, later in itertools.pairwise(told)]
    assert apart
    assert 0 < min(apart) < PROGRESS_EVERY


def test_one_that_stands_still_is_not_waited_for(nursery: Nursery, many: Path) -> None:
    """Its process is stopped once the other begins to talk."""

    def see(event: Event) -> None:
        if event.what is What.STARTED and event.client == "flood/0":
            pids.append(int(event.detail["pid"] or 0))
        if event.what is What.CONNECTED and event.client == "beside/0":
            os.kill(pids[0], signal.SIGSTOP)

    pids: list[int] = []
    what = plan(group("flood", Flood(bytes=ENDLESS)), group("beside", Ping(times=30), after="flood"))
    trace = run(what, many, nursery, on_event=see, slowness=BRISK)
    assert ends(trace) == {"served": 2}
    talked = only(trace, "beside/0", What.ANSWERED).at
    assert not [event for event in of(trace, "flood/0") if event.what is What.PROGRESS and event.at > talked]


def test_each_write_is_a_small_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, Tap(ours, lambda: None) as tap:
        tap.write_by(3)
        assert tap.sendmsg([b"abcdefg"], (), socket.MSG_DONTWAIT) == 7
        assert [theirs.recv(100) for _ in range(3)] == [b"abc", b"def", b"g"]
        room = tap.sendmsg([bytes(100_000)], (), socket.MSG_DONTWAIT)
        assert 0 < room <= 3 * BURST, "as many as there is room for, then it is told how many"
        with contextlib.suppress(BlockingIOError):
            while True:
                tap.sendmsg([bytes(100)], (), socket.MSG_DONTWAIT)
        assert tap.sent < 100_000


@pytest.mark.parametrize("size", [1000, 3 << 20])
@pytest.mark.parametrize("way", Way)
def test_in_a_sequence_it_is_through_and_leaves(nursery: Nursery, many: Path, way: Way, size: int) -> None:
    what = plan(
        group("flood", Flood(bytes=size, way=way)), group("next", Ping()), schedule=Schedule.SEQUENTIAL
    )
    trace = run(what, many, nursery)
    assert ends(trace) == {"served": 2}
    assert [event.client for event in trace if event.what is What.LEFT] == ["flood/0", "next/0"]
    assert not [event for event in trace if event.what is What.HOLDING]
    last = [event for event in of(trace, "flood/0") if event.what is What.PROGRESS][-1]
    assert last.detail["through"] is True
    assert int(last.detail["sent" if way is Way.SEND else "received"] or 0) >= size


def test_when_told_to_leave_it_leaves(nursery: Nursery, many: Path) -> None:
    what = plan(group("flood", Flood(bytes=ENDLESS)), group("other", Ping(), after="flood"), drain=True)
    trace = run(what, many, nursery)
    assert [event.client for event in trace if event.what is What.LEFT] == ["flood/0", "other/0"]


@pytest.mark.parametrize("way", Way)
def test_it_has_a_serial_port_for_itself(nursery: Nursery, serial: Path, way: Way) -> None:
    flood = group("flood", Flood(bytes=ENDLESS, way=way))
    trace = run(plan(flood, group("other", Ping(), count=2, after="flood")), serial, nursery, slowness=BRISK)
    assert ends(trace, "other") == {"waiting": 2}
    assert ends(trace, "flood") == {"served": 1}


def test_each_round_trip_is_timed(nursery: Nursery, many: Path) -> None:
    trace = run(plan(group("client", Ping(times=5), Ping(times=2000))), many, nursery)
    few, all_of_them = (event for event in trace if event.what is What.ANSWERED)
    (first,) = (event for event in trace if event.what is What.PROGRESS)
    assert first.at < few.at, "that somebody answers is known at the first byte"
    assert first.detail["received"]
    assert len(few.trips) == 5
    assert len(all_of_them.trips) == 1000
    taken = (few.at - next(event.at for event in trace if event.what is What.ASKED)) * 1e6
    assert 0 < sum(few.trips) <= taken
    assert few.detail["times"] == 5
    assert few.detail["p50 ms"] == sorted(few.trips)[2] / 1000
    assert few.detail["p99 ms"] == max(few.trips) / 1000


@pytest.mark.parametrize("way", Way)
def test_behind_another_client_of_a_serial_port_it_waits(nursery: Nursery, serial: Path, way: Way) -> None:
    """What a socket and a port take is no word from the agent."""
    flood = group("flood", Flood(bytes=ENDLESS, way=way), after="first")
    trace = run(plan(group("first", Ping()), flood), serial, nursery, slowness=BRISK)
    assert ends(trace) == {"served": 1, "waiting": 1}
    assert not [event for event in of(trace, "flood/0") if event.what in (What.ANSWERED, What.HOLDING)]


def test_all_who_are_parked_begin_at_once(nursery: Nursery, many: Path) -> None:
    talkers = group("talkers", WaitFor(group="flood", event=Moment.HOLDING), Ping(times=3), Leave(), count=8)
    flood = group("flood", WaitFor(group="talkers", event=Moment.PARKED), Flood(bytes=ENDLESS))
    trace = run(plan(talkers, flood), many, nursery)
    assert ends(trace) == {"served": 9}
    connected = [event.at for event in trace if event.what is What.CONNECTED]
    (begun,) = (event.at for event in trace if event.op == "flood" and event.what is What.ASKED)
    asked = [event.at for event in trace if event.op == "ping" and event.what is What.ASKED]
    assert max(connected) < begun < min(asked)


def test_who_waits_for_a_serial_port_is_never_parked(nursery: Nursery, serial: Path) -> None:
    """Its place in connect() is no connection; nobody waits for it for ever."""
    first = group("first", Ping())
    talkers = group("talkers", WaitFor(group="flood", event=Moment.HOLDING), Ping(), count=3, after="first")
    flood = group("flood", WaitFor(group="talkers", event=Moment.PARKED), Flood(bytes=ENDLESS), after="first")
    trace = run(plan(first, talkers, flood), serial, nursery, slowness=BRISK)
    assert ends(trace, "first") == {"served": 1}
    assert ends(trace, "flood") == {"waiting": 1}
    assert not [event for event in trace if event.client.startswith("talkers") and event.trips]


def test_it_ends_though_who_left_is_still_there(nursery: Nursery, many: Path) -> None:
    """A process takes its time to be gone. This one is stopped until the flood has ended."""
    pids: dict[str, int] = {}

    def see(event: Event) -> None:
        if event.what is What.STARTED:
            pids[event.client] = int(event.detail["pid"] or 0)
        sent = {What.LEFT: signal.SIGSTOP, What.ENDED: signal.SIGCONT}.get(event.what)
        if sent:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids["talker/0"], sent)

    what = plan(group("flood", Flood(bytes=ENDLESS)), group("talker", Ping(), Leave(), after="flood"))
    trace = run(what, many, nursery, on_event=see)
    assert ends(trace) == {"served": 2}
