"""The trace of clients that are not there: order, ends, and who leaves first."""

from __future__ import annotations

from harness.model.plan import Connection
from harness.model.steps import Echo, Moment, Ping
from harness.model.trace import Event, What
from harness.run.peer import Peer
from harness.run.roster import Roster
from tests.unit.running import group, plan

TWO = plan(group("a", Ping(), count=2), group("b", Echo(bytes=8), connection=Connection.SHARED))


def made() -> tuple[Roster, list[Event]]:
    told: list[Event] = []
    return Roster(TWO, told.append), told


def saw(roster: Roster, peer: Peer, at: float, what: What, **detail: bool) -> None:
    roster.saw(peer, Event(at=at, client=peer.name, what=what, step=0, op="ping", detail=dict(detail)))


def test_the_trace_is_in_order_of_time() -> None:
    roster, told = made()
    first, second, _ = roster.peers
    saw(roster, first, 2.0, What.ASKED)
    saw(roster, second, 1.0, What.ASKED)
    assert [event.at for event in told] == [2.0, 1.0]
    assert [event.at for event in roster.trace] == [1.0, 2.0]
    roster.close()


def test_nothing_comes_after_a_clients_end() -> None:
    roster, told = made()
    peer = roster.peers[0]
    roster.record(peer, What.ENDED, doing="ping")
    saw(roster, peer, 5.0, What.ANSWERED)
    roster.end(roster.peers[:1])
    roster.gone(peer)
    assert [event.what for event in told] == [What.ENDED]
    assert roster.trace == tuple(told)
    roster.close()


def test_clients_at_work_are_ended_before_those_who_hold() -> None:
    roster, told = made()
    first, second, shared = roster.peers
    saw(roster, first, 1.0, What.HOLDING, pings=True)
    saw(roster, second, 2.0, What.ASKED)
    saw(roster, shared, 3.0, What.ASKED)
    told.clear()
    roster.end(roster.peers)
    assert [(event.client, event.what) for event in told] == [
        ("a/1", What.ENDED),
        ("b/0", What.WRONG),
        ("b/0", What.ENDED),
        ("a/0", What.ENDED),
    ]
    roster.close()


def test_served_is_in_the_order_of_holding() -> None:
    roster, _ = made()
    first, second, _ = roster.peers
    saw(roster, second, 1.0, What.HOLDING, pings=True)
    saw(roster, first, 2.0, What.HOLDING, pings=True)
    saw(roster, second, 3.0, What.PINGED)
    assert roster.served == [second, first]
    assert roster.past("a", Moment.HOLDING)
    assert not roster.past("a", Moment.LEFT)
    roster.close()


def test_a_process_that_went_by_itself_is_lost_with_its_reason() -> None:
    roster, told = made()
    peer = roster.peers[0]
    peer.crash = "killed by SIGSEGV"
    roster.gone(peer)
    assert told[-1].what is What.LOST
    assert told[-1].detail == {"process": "killed by SIGSEGV", "doing": "not started"}
    assert roster.past("a", Moment.ENDED) is False
    roster.close()
