"""What dies, agent or client, and what clients that meet it tell: against a real agent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
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
from harness.model.plan import Initiated
from harness.model.steps import Containers, Finish, MeetFault, Ping, Start
from harness.model.trace import BY_SIGKILL, What
from harness.run.meeting import After, Done, GuestEnd
from harness.run.nursery import Nursery
from tests.unit.agents import reference_proxy, yamux_agent
from tests.unit.hangs import HANGS
from tests.unit.meetings import Agent, Fake, facts, meet, meeting, told
from tests.unit.running import endpoint, group, only, plan, run
from tests.unit.traces import plan as our_plan

DOINGS = tuple(doing for doing in While if doing is not While.LISTENING)  # without a guest nobody dials


def test_an_agent_that_dies(agent: Agent, nursery: Nursery) -> None:
    deed = Fake(agent.die)
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


def test_what_is_seen_between_a_faults_beginning_and_its_end_is_the_faults(
    agent: Agent, nursery: Nursery
) -> None:
    """As of a restore: the VM is stopped, saved, and only then ends."""
    deed = Fake(agent.die, lasts=0.5)
    trace = meet(meeting(*DOINGS), agent.path, nursery, deed)
    for doing in DOINGS:
        seen = only(trace, f"{doing}/0", What.NOTICED).detail
        assert seen["sees"] in ("eof early", "EPIPE early", "ECONNRESET early", "ECONNREFUSED early")
        assert facts(trace, f"{doing}/0")["sees"] == seen["sees"]
        assert -deed.lasted - 1e-4 < float(seen["seconds"] or 0) < 0  # told in such steps


def test_what_is_seen_before_a_fault_began_is_not(agent: Agent, nursery: Nursery) -> None:
    trace = meet(meeting(While.IDLE), agent.path, nursery, Fake(agent.die, lasts=0.5, late=True))
    assert "before the fault" in str(only(trace, "idle/0", What.LOST).detail)


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
    deed = Fake(after=lambda: told(agent.facts()))
    trace = meet(what, agent.path, nursery, deed)
    assert only(trace, "victim/0", What.LOST).detail["process"] == BY_SIGKILL
    assert facts(trace, "victim/0")["guest"] in ("eof", "EPIPE", "ECONNRESET")
    assert facts(trace, "other/0")["guest"] == "nothing"
    assert only(trace, "other/0", What.HOLDING)


def test_the_agent_is_elsewhere_afterwards(agent: Agent, nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Agent(tmp_path / "other")
    with other.process:
        there = Endpoint(link=Link.SERIAL_PROXY, path=str(other.path))
        deed = Fake(agent.die, after=lambda: After(endpoint=there))
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
        assert agent.facts().ended == {}
    until(lambda: bool(agent.facts().ended), Deadline(HANGS), "the end")
    early = agent.facts().ended["x/0"]
    assert early.how == "eof"
    time.sleep(0.05)
    assert 0.05 <= agent.facts().ended["x/0"].ago - early.ago < 60


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
                    lambda: len(client.facts(deadline=Deadline(HANGS)).ended) == 4,
                    Deadline(HANGS),
                    "all of them",
                )
                facts = client.facts(deadline=Deadline(HANGS))
                return msgspec.structs.replace(told(facts), containers=facts.containers)

        def asked() -> After:
            with AgentClient(connect(endpoint(path))) as client:
                return told(client.facts(deadline=Deadline(HANGS)))

        deed = Fake(do, after=asked if scenario == "reliability-shim-killed" else ended)
        there = Endpoint(link=Link.SERIAL_PROXY, path=str(path))
        elsewhere = Endpoint(link=Link.SERIAL_PROXY, path=str(beside))
        trace = run(on_link, there, nursery, deed=deed, elsewhere=elsewhere)
    # what each end sees, not how soon: this machine may be a starved one
    assert judge(on_link.stretched(HANGS), trace).differences == ()


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
    deed = Fake(agent.die if fault is FaultKind.AGENT_KILL else lambda: None)
    trace = meet(what, agent.path, nursery, deed)
    opened = {event.client: event.detail["initiated"] for event in trace if event.what is What.CONNECTED}
    assert opened == {"idle/0": "host", "idle/1": "guest"}
    assert [facts(trace, client)["reconnect"] for client in opened] == [reconnect, reconnect]


@pytest.mark.parametrize(("spoilt", "reconnect"), [(False, "served"), (True, "garbled")])
def test_who_listens_tells_what_it_reads_of_who_dials_it_anew(
    agent: Agent, nursery: Nursery, spoilt: bool, reconnect: str
) -> None:
    """As on hybrid-vsock; between agent and client somebody then writes what is no frame."""
    with contextlib.ExitStack() as stack:

        def do() -> None:
            if spoilt:
                (path,) = agent.path.parent.glob(f"{agent.path.name}_*")
                stack.enter_context(garbage_before(path))

        trace = meet(meeting(While.LISTENING, within=1), agent.path, nursery, Fake(do))
    assert facts(trace, "listening/0") == {"sees": "nothing", "reconnect": reconnect}
    assert only(trace, "listening/0", What.HOLDING)


@contextlib.contextmanager
def garbage_before(path: Path) -> Iterator[None]:
    """Who connects to the socket at `path` gets somebody else, who sends zeros to who listened there."""
    behind = path.rename(path.with_name("behind"))

    def serve() -> None:
        with listener.accept()[0], socket.socket(socket.AF_UNIX) as client:
            client.connect(str(behind))
            client.sendall(bytes(64))
            drained(client)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield
        serving.join(HANGS)


def drained(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass


def test_what_the_guest_knows_is_told_of_each(agent: Agent, nursery: Nursery) -> None:
    deed = Fake(after=lambda: After(ended={"idle/0": GuestEnd(how="eof", at=time.monotonic())}, containers=2))
    trace = meet(meeting(While.IDLE, While.CONNECTING, within=1), agent.path, nursery, deed)
    told = [facts(trace, client) for client in ("idle/0", "connecting/0")]
    assert [one["guest"] for one in told] == ["eof", "nothing"]
    assert [one["containers"] for one in told] == ["2 running", "2 running"]
    assert 0 < float(str(told[0]["guest-noticed"])) < 60
    assert "guest-noticed" not in told[1]
    when = Done(began=5.0, at=5.0)
    assert After(ended={}, containers=0).learned("x/0", when) == {"guest": "nothing", "containers": "gone"}
    ended = {"x/0": GuestEnd(how="eof", at=5.25)}
    assert After(ended=ended).learned("x/0", when) == {"guest": "eof", "guest-noticed": 0.25}
    removed = After(removed={"x/0": 5.75, "early/0": 4.75})
    assert removed.learned("x/0", when) == {"containers-gone": 0.75}
    assert removed.learned("early/0", when) == {}
    assert removed.learned("y/0", when) == After().learned("x/0", when) == {}
