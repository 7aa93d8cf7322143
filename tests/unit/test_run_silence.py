"""What stays silent at a fault, and how long clients that meet it wait to say so."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.model.deadline import Deadline
from harness.model.fault import FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.plan import Initiated
from harness.model.steps import MeetFault
from harness.model.trace import What
from harness.run import control
from harness.run import fresh as fresh_module
from harness.run import meet as meet_module
from harness.run.nursery import Nursery
from tests.unit.meetings import Agent, Fake, facts, meet, meeting
from tests.unit.running import only


def test_an_agent_that_stands_still_and_goes_on(agent: Agent, nursery: Nursery) -> None:
    def signalled(number: signal.Signals) -> Callable[[], None]:
        return lambda: os.kill(agent.process.pid, number)

    deed = Fake(signalled(signal.SIGSTOP), signalled(signal.SIGCONT))
    doings = (While.IDLE, While.SENDING, While.RECEIVING)
    trace = meet(meeting(*doings, within=1, kind=FaultKind.PAUSE), agent.path, nursery, deed)
    for doing in doings:
        told = facts(trace, f"{doing}/0")
        assert (told["sees"], told["then"], told["reconnect"]) == ("nothing", "served", "served")
        assert float(only(trace, f"{doing}/0", What.NOTICED).detail["seconds"] or 0) >= 1
    assert facts(trace, "idle/0")["next-send"] == "ok"
    assert facts(trace, "sending/0")["next-send"] in ("blocked", "ok")  # a Unix socket takes a little yet


def test_an_agent_that_never_goes_on_is_silent(agent: Agent, nursery: Nursery) -> None:
    deed = Fake(lambda: os.kill(agent.process.pid, signal.SIGSTOP))
    trace = meet(meeting(While.IDLE, within=1, kind=FaultKind.PAUSE), agent.path, nursery, deed)
    assert facts(trace, "idle/0") == {
        "sees": "nothing",
        "next-send": "ok",
        "then": "silent",
        "reconnect": "silent",
    }


def begin(where: Endpoint, initiated: Initiated = Initiated.HOST) -> control.Begin:
    role = control.Role.ALONE
    words = {"client": "x/0", "scenario": "unit", "steps": (), "leave": False, "slowness": 1.0}
    return control.Begin(endpoint=where, initiated=initiated, role=role, **words)  # type: ignore[arg-type]


class FakeGuest:
    """In the place of `AgentSockets`: dials the listening end beside a path, where `answers` serves it."""

    calls = 0

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._path = sock.getpeername()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> FakeGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        self._stack.close()

    def dial(self, port: int, deadline: Deadline) -> str | None:
        FakeGuest.calls += 1
        if FakeGuest.calls > 2:
            return "ECONNRESET"
        caller = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        caller.connect(f"{self._path}_{port}")
        thread = threading.Thread(target=echo_once, args=(caller,))
        thread.start()
        self._stack.callback(thread.join)
        return None


def echo_once(sock: socket.socket) -> None:
    decoder = Decoder()
    while data := sock.recv(65536):
        for frame in decoder.feed(data):
            assert isinstance(frame, Frame)
            sock.sendall(encode(Frame(Kind.DATA, frame.request, frame.payload)))
            return


@pytest.mark.parametrize(("calls", "reconnect"), [(0, "served"), (1, "ECONNRESET")])
def test_a_listening_end_hears_nothing_of_the_fault(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, calls: int, reconnect: str
) -> None:
    monkeypatch.setattr(FakeGuest, "calls", calls)
    monkeypatch.setattr(fresh_module, "AgentSockets", FakeGuest)
    ours, theirs = control.pair()
    told: list[tuple[What, dict[str, object]]] = []
    where = Endpoint(link=Link.SERIAL_PROXY, path=str(agent.path))

    def tell(what: What, **detail: object) -> None:
        told.append((what, detail))
        if what is not What.FACT:
            control.send(ours, control.Go(at=time.monotonic()))

    with ours, theirs, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(agent.path))
        step = MeetFault(doing=While.LISTENING, within=1)
        met = meet_module.Encounter(step, sock, begin(where), theirs, seed=1)
        met.through("x/0", tell)
        assert not met.alive
    facts = [detail for what, detail in told if what is What.FACT]
    assert facts == [{"sees": "nothing"}, {"reconnect": reconnect}]


@pytest.mark.parametrize(("agent", "each", "least", "most"), [(False, 1.0, 0.1, 15), (True, 0.05, 1.0, 15)])
def test_where_there_is_no_agent_none_is_waited_for_longer_on_a_slow_machine(
    monkeypatch: pytest.MonkeyPatch, agent: bool, each: float, least: float, most: float
) -> None:
    monkeypatch.setattr(meet_module, "ANSWER_TAKES", (0.1, each))
    ours, theirs = control.pair()
    sock, silent = socket.socketpair()
    with ours, theirs, sock, silent:
        slow = msgspec.structs.replace(begin(Endpoint(link=Link.SERIAL_PROXY, path="/nowhere")), slowness=20)
        met = meet_module.Encounter(MeetFault(doing=While.IDLE), sock, slow, theirs, seed=1)
        control.send(ours, control.Go(agent=agent))
        met.over()
        start = time.monotonic()
        assert met.then() == "silent"
    assert least <= time.monotonic() - start < most


@pytest.mark.parametrize(("moves", "each", "least", "most"), [(False, 1.0, 0.1, 15), (True, 0.1, 2.0, 15)])
def test_where_not_a_byte_moves_and_others_are_served_time_is_no_matter(
    monkeypatch: pytest.MonkeyPatch, agent: Agent, moves: bool, each: float, least: float, most: float
) -> None:
    monkeypatch.setattr(meet_module, "ANSWER_TAKES", (0.1, each))
    ours, theirs = control.pair()
    sock, deaf = socket.socketpair()
    with ours, theirs, sock, deaf:
        with contextlib.suppress(BlockingIOError):
            while not moves:
                sock.send(bytes(65536), socket.MSG_DONTWAIT)
        where = Endpoint(link=Link.SERIAL_PROXY, path=str(agent.path))
        slow = msgspec.structs.replace(begin(where), slowness=20)
        met = meet_module.Encounter(MeetFault(doing=While.IDLE), sock, slow, theirs, seed=1)
        start = time.monotonic()
        assert met.then() == "silent"
    assert least <= time.monotonic() - start < most
