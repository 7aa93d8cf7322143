"""Clients that meet a fault, and what they tell of it: against a real agent that is killed or stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient
from harness.judge import judge
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import SystemFailure
from harness.model.fault import Fault, FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.plan import Initiated, Plan
from harness.model.steps import Containers, Finish, MeetFault, Ping, Start
from harness.model.trace import What
from harness.run import control
from harness.run import meet as meet_module
from harness.run.meeting import After
from harness.run.nursery import Nursery
from harness.run.roster import Trace
from tests.unit.agents import HARNESS, reference_proxy, yamux_agent
from tests.unit.running import endpoint, group, only, plan, run
from tests.unit.traces import plan as our_plan

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.__main__ import main; main()"
DOINGS = tuple(doing for doing in While if doing is not While.LISTENING)  # without a guest nobody dials


class Agent:
    """One on a Unix socket, which tests may treat as they like."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        argv = [sys.executable, "-I", "-B", "-c", _START, str(HARNESS), "--unix", str(self.path)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def ended(self) -> dict[str, str]:
        with AgentClient(connect(endpoint(self.path))) as client:
            return client.facts(deadline=Deadline(20)).ended


class Fake:
    """A deed that does something of the test's."""

    def __init__(
        self,
        do: Callable[[], object] = lambda: None,
        undo: Callable[[], object] = lambda: None,
        after: Callable[[], After] = After,
    ) -> None:
        self.did: list[str] = []
        self._do, self._undo, self._after = do, undo, after

    async def do(self, kill: Callable[[], None]) -> float:
        self.did.append("do")
        at = time.monotonic()
        kill()
        self._do()
        return at

    async def undo(self) -> After:
        self.did.append("undo")
        self._undo()
        return self._after()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    with agent.process:
        yield agent
        agent.process.kill()


def meeting(*doings: While, within: int = 10, kind: FaultKind = FaultKind.AGENT_KILL) -> Plan:
    """A client for each of `doings`; as on a proxied link, so that all of them connect once more."""
    groups = [group(doing.value, MeetFault(doing=doing, within=within)) for doing in doings]
    return msgspec.structs.replace(plan(*groups), fault=Fault(kind=kind), link=Link.SERIAL_PROXY)


def meet(what: Plan, path: Path, nursery: Nursery, deed: Fake) -> Trace:
    return run(what, Endpoint(link=Link.SERIAL_PROXY, path=str(path)), nursery, deed=deed, seconds=60)


def facts(trace: Trace, client: str) -> dict[str, object]:
    told: dict[str, object] = {}
    for event in trace:
        if event.client == client and event.what is What.FACT:
            told |= event.detail
    return told


def test_an_agent_that_dies(agent: Agent, nursery: Nursery) -> None:
    deed = Fake(agent.process.kill)
    trace = meet(meeting(*DOINGS), agent.path, nursery, deed)
    assert deed.did == ["do", "undo"]
    for doing in DOINGS:
        told = facts(trace, f"{doing}/0")
        seen = only(trace, f"{doing}/0", What.NOTICED).detail
        assert told["sees"] == seen["sees"]
        assert 0 <= float(seen["seconds"] or 0) < 10
        assert told["reconnect"] == "ECONNREFUSED"
        assert told.get("then", "gone") == "gone"
    assert facts(trace, "idle/0")["sees"] in ("eof", "ECONNRESET")
    assert facts(trace, "sending/0")["sees"] in ("EPIPE", "ECONNRESET")
    assert facts(trace, "connecting/0") == {"sees": "ECONNREFUSED", "reconnect": "ECONNREFUSED"}


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


def test_a_killed_client_disturbs_nobody_and_its_container_goes(agent: Agent, nursery: Nursery) -> None:
    groups = (
        group(
            "victim",
            Start(name="c", argv=("sleep", "1000")),
            Containers(running=2),
            MeetFault(doing=While.RECEIVING),
        ),
        group(
            "other",
            Start(name="c", argv=("cat",)),
            Containers(running=2),
            MeetFault(doing=While.IDLE, within=1),
            Containers(running=1),
            Finish(name="c", stdin="x", stdout="x", exit=0),
            Ping(),
        ),
    )
    what = msgspec.structs.replace(plan(*groups), fault=Fault(kind=FaultKind.SHIM_KILL, group="victim"))
    deed = Fake(after=lambda: After(ended=agent.ended()))
    trace = meet(what, agent.path, nursery, deed)
    assert only(trace, "victim/0", What.LOST).detail["process"] == "killed by SIGKILL"
    assert facts(trace, "victim/0")["guest"] in ("eof", "EPIPE", "ECONNRESET")
    assert facts(trace, "other/0")["guest"] == "nothing"
    assert only(trace, "other/0", What.HOLDING)


def test_the_agent_is_elsewhere_afterwards(agent: Agent, nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Agent(tmp_path / "other")
    with other.process:
        there = Endpoint(link=Link.SERIAL_PROXY, path=str(other.path))
        deed = Fake(agent.process.kill, after=lambda: After(endpoint=there))
        trace = meet(meeting(While.IDLE), agent.path, nursery, deed)
        other.process.kill()
    assert facts(trace, "idle/0")["reconnect"] == "served"


def test_without_a_deed_nobody_is_served(agent: Agent, nursery: Nursery) -> None:
    trace = run(meeting(While.IDLE), endpoint(agent.path), nursery, slowness=0.05)
    assert only(trace, "idle/0", What.ENDED).detail == {"doing": "waits for the fault"}


def test_a_connection_that_ends_before_the_fault_is_lost(nursery: Nursery, agent: Agent) -> None:
    """The other client never gets as far as to meet the fault, so it does not come."""
    groups = (
        group("idle", MeetFault(doing=While.IDLE)),
        group("late", Containers(running=7), MeetFault(doing=While.IDLE)),
    )
    what = msgspec.structs.replace(plan(*groups), fault=Fault(kind=FaultKind.PAUSE))
    deed = Fake()
    trace = run(what, endpoint(agent.path), nursery, deed=deed, slowness=0.05)
    assert only(trace, "late/0", What.WRONG)
    assert deed.did == ["do", "undo"]  # of those who are left


def test_what_a_deed_raises_comes_through(agent: Agent, nursery: Nursery) -> None:
    def fail() -> None:
        raise SystemFailure("cannot")

    with pytest.raises(SystemFailure, match="cannot"):
        meet(meeting(While.IDLE), agent.path, nursery, Fake(fail))


def test_the_agent_remembers_how_labelled_connections_ended(agent: Agent) -> None:
    with connect(endpoint(agent.path)) as sock:
        sock.sendall(encode(Frame(Kind.HELLO, 5, b'{"label":"x/0"}')))
        (frame,) = Decoder().feed(sock.recv(65536))
        assert isinstance(frame, Frame)
        assert frame.kind == Kind.REPLY
        assert agent.ended() == {}
    until(lambda: agent.ended() == {"x/0": "eof"}, Deadline(20), "the end")


@pytest.mark.parametrize("scenario", ["reliability-shim-killed", "reliability-proxy-killed"])
def test_our_scenarios_of_faults_hold_behind_the_real_proxy(nursery: Nursery, scenario: str) -> None:
    on_link = our_plan(scenario, Link.SERIAL_PROXY)
    with (
        yamux_agent() as mux,
        reference_proxy(mux) as (path, process),
        yamux_agent() as another,
        reference_proxy(another) as (beside, _),
    ):

        def do() -> None:
            if on_link.fault and on_link.fault.kind is FaultKind.PROXY_KILL:
                process.kill()

        def ended() -> After:
            """How it is told by another proxy, as the first may be dead."""
            with reference_proxy(mux) as (other, _), AgentClient(connect(endpoint(other))) as client:
                until(
                    lambda: len(client.facts(deadline=Deadline(20)).ended) == 4, Deadline(20), "all of them"
                )
                facts = client.facts(deadline=Deadline(20))
                return After(ended=facts.ended, containers=facts.containers)

        def asked() -> After:
            with AgentClient(connect(endpoint(path))) as client:
                return After(ended=client.facts(deadline=Deadline(20)).ended)

        deed = Fake(do, after=asked if scenario == "reliability-shim-killed" else ended)
        there = Endpoint(link=Link.SERIAL_PROXY, path=str(path))
        elsewhere = Endpoint(link=Link.SERIAL_PROXY, path=str(beside))
        trace = run(on_link, there, nursery, deed=deed, elsewhere=elsewhere, seconds=60)
    assert judge(on_link, trace).differences == ()


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
    monkeypatch.setattr(meet_module, "AgentSockets", FakeGuest)
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


@pytest.mark.parametrize(
    ("fault", "reconnect"), [(FaultKind.PAUSE, "served"), (FaultKind.AGENT_KILL, "ECONNREFUSED")]
)
def test_who_was_dialled_is_dialled_again(
    agent: Agent, nursery: Nursery, fault: FaultKind, reconnect: str
) -> None:
    """As on hybrid-vsock: an agent on a Unix socket dials the sockets beside it."""
    step = MeetFault(doing=While.IDLE, within=1)
    idle = group("idle", step, count=2, initiated=Initiated.BOTH)
    what = msgspec.structs.replace(plan(idle), fault=Fault(kind=fault), link=Link.SERIAL_PROXY)
    deed = Fake(agent.process.kill if fault is FaultKind.AGENT_KILL else lambda: None)
    trace = meet(what, agent.path, nursery, deed)
    opened = {event.client: event.detail["initiated"] for event in trace if event.what is What.CONNECTED}
    assert opened == {"idle/0": "host", "idle/1": "guest"}
    assert [facts(trace, client)["reconnect"] for client in opened] == [reconnect, reconnect]


def test_what_the_guest_knows_is_told_of_each(agent: Agent, nursery: Nursery) -> None:
    deed = Fake(after=lambda: After(ended={"idle/0": "eof"}, containers=2))
    trace = meet(meeting(While.IDLE, While.CONNECTING, within=1), agent.path, nursery, deed)
    told = [facts(trace, client) for client in ("idle/0", "connecting/0")]
    assert [one["guest"] for one in told] == ["eof", "nothing"]
    assert [one["containers"] for one in told] == ["2 running", "2 running"]
    assert After(ended={}, containers=0).learned("x/0") == {"guest": "nothing", "containers": "gone"}
    assert After().learned("x/0") == {}
