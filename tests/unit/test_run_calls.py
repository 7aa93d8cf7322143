"""A guest that connects again and again when something dies: who it calls, and what it says of its calls."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.agent.again import again
from harness.link.connect import connect
from harness.link.listen import listening
from harness.model.deadline import Deadline, until
from harness.model.fault import Fault, FaultKind, While
from harness.model.link import Link
from harness.model.plan import Initiated, Plan
from harness.model.steps import MeetFault
from harness.model.trace import What
from harness.run.aftermath import Aftermath
from harness.run.calls import Calls
from harness.run.line import Line
from harness.run.meeting import After, Done, GuestEnd
from harness.run.nursery import Nursery
from harness.run.roster import Trace
from tests.unit.meetings import Agent, Fake, facts, meet, told
from tests.unit.running import endpoint, group, only, plan

CALLED = "calling/0"


def calling(within: int = 1) -> Plan:
    """One client that the guest calls: as on hybrid-vsock, beside the agent's Unix socket."""
    step = MeetFault(doing=While.CONNECTING, within=within)
    what = plan(group("calling", step, initiated=Initiated.GUEST))
    return msgspec.structs.replace(what, fault=Fault(kind=FaultKind.PAUSE), link=Link.SERIAL_PROXY)


def met(agent: Agent, nursery: Nursery, do: Callable[[], object], *, asked: bool = True) -> Trace:
    """What became of it."""
    deed = Fake(do, after=lambda: told(agent.facts()) if asked else After(agent=False))
    return meet(calling(), agent.path, nursery, deed)


def test_a_guest_that_is_not_disturbed_calls_on(agent: Agent, nursery: Nursery) -> None:
    trace = met(agent, nursery, lambda: None)
    assert facts(trace, CALLED) == {"sees": "called", "guest": "nothing", "reconnect": "served"}
    assert only(trace, CALLED, What.HOLDING)


def test_a_guest_that_is_gone_calls_no_more(agent: Agent, nursery: Nursery) -> None:
    trace = met(agent, nursery, agent.die, asked=False)
    assert facts(trace, CALLED) == {"sees": "nothing", "reconnect": "ECONNREFUSED"}
    assert float(only(trace, CALLED, What.NOTICED).detail["seconds"] or 0) >= 1


def test_a_guest_tells_how_its_call_failed_and_when(agent: Agent, nursery: Nursery) -> None:
    def unlink() -> None:
        (listener,) = agent.path.parent.glob(f"{agent.path.name}_*")
        listener.rename(agent.path.parent / "elsewhere")

    trace = met(agent, nursery, unlink)
    said = facts(trace, CALLED)
    assert (said["sees"], said["guest"], said["reconnect"]) == ("nothing", "ENOENT", "served")
    assert 0 <= float(str(said["guest-noticed"])) < 1


def test_what_failed_before_the_fault_is_not_told_of_it() -> None:
    ended = {"x/0": GuestEnd(how="ETIMEDOUT", at=4.5)}
    assert After(ended=ended).learned("x/0", Done(began=5.0, at=6.0)) == {"guest": "nothing"}
    begun = Done(began=4.0, at=5.0)
    assert After(ended=ended).learned("x/0", begun) == {"guest": "ETIMEDOUT", "guest-noticed": -0.5}


def test_nobody_waits_for_the_end_of_calls(agent: Agent) -> None:
    """They may go on after the fault, or have failed before it is undone."""
    fault = Fault(kind=FaultKind.UNPLUG)
    assert Aftermath(calling(), fault, 20.0).told(endpoint(agent.path)).ended == {}


def test_who_is_not_called_at_all_is_lost(agent: Agent) -> None:
    """The agent says that it will, and then cannot."""
    with listening(endpoint(agent.path)) as listener, connect(endpoint(agent.path)) as sock:
        (path,) = agent.path.parent.glob(f"{agent.path.name}_*")
        path.rename(path.with_name("elsewhere"))
        began = time.monotonic()
        assert not Calls(listener).ordered(Line(sock), "x/0", began + 0.3)
        assert time.monotonic() >= began + 0.3
        assert agent.facts().ended["x/0"].how == "ENOENT"
        path.with_name("elsewhere").rename(path)


def test_a_call_of_another_guest_is_no_call_of_this_one(tmp_path: Path) -> None:
    with listening(endpoint(tmp_path / "s")) as listener:
        listener._cid = 77  # an address of a Unix socket begins with no such thing
        (path,) = tmp_path.glob("s_*")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other"))
            other.connect(str(path))
            calls = Calls(listener)
            calls.take(end=time.monotonic() + 0.2, most=1)
            assert calls.last == 0.0
            assert other.recv(1) == b""


@pytest.mark.parametrize(
    ("outcomes", "noted"),
    [
        (["ok", "ETIMEDOUT", "ok", "ENODEV", "ENODEV"], ["ETIMEDOUT", "ENODEV"]),
        (["ok", "ENODEV", "ETIMEDOUT"], ["ENODEV"]),  # how it began to fail is what counts
    ],
)
def test_of_calls_that_fail_in_a_row_the_first_is_kept_in_mind(outcomes: list[str], noted: list[str]) -> None:
    """They end when who asked for them has gone, and not before one fails."""
    asker, client = socket.socketpair()
    left = list(outcomes)
    said: list[str] = []

    def dial() -> socket.socket:
        outcome = left.pop(0)
        if not left:
            client.close()
        if outcome != "ok":
            raise OSError(getattr(errno, outcome), outcome)
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    with asker:
        again(dial, said.append, asker.fileno())
    assert (left, said) == ([], noted)


def test_the_agent_stops_calling_when_nobody_is_there(agent: Agent) -> None:
    """The port and who asked are gone: no thread is left that dials for ever."""
    threads = Path(f"/proc/{agent.process.pid}/task")

    def busy() -> int:
        return len(list(threads.iterdir()))

    with listening(endpoint(agent.path)) as listener, connect(endpoint(agent.path)) as sock:
        assert Calls(listener).ordered(Line(sock), "x/0", time.monotonic() + 20)
        at_work = busy()
    until(lambda: busy() <= at_work - 2, Deadline(20), "the end of the session and of its calls")
