"""Traces as systems would leave them: right ones, and ones that misbehave in a known way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from harness.model.fault import FaultKind, While
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.scenario import Scenario, load
from harness.model.steps import (
    BULK,
    AskAndLeave,
    Connect,
    Containers,
    Copy,
    Echo,
    Exchange,
    Finish,
    Flood,
    Leave,
    MeetFault,
    Messages,
    OpenDevice,
    Ping,
    Receive,
    Run,
    Send,
    Shutdown,
    Start,
    Step,
)
from harness.model.trace import Event, What
from tests.unit.fates import (
    BEHIND_A_PORT,
    BEHIND_A_PROXY,
    CUT,
    GUEST,
    GUEST_OF_A_PORT,
    GUEST_OF_A_PROXY,
    MET,
    ON_A_PROCESS,
    Seen,
)

SCENARIOS = Path(__file__).parents[2] / "scenarios"


Value = str | int | float | bool | None


SECOND_OPEN = {
    Link.VSOCK: "no-device",
    Link.VIRTIO_SERIAL: "EBUSY",
    Link.VIRTCONSOLE: "opened",
    Link.ISA_SERIAL: "opened",
    Link.SERIAL_PROXY: "EBUSY",
    Link.HYBRID_VSOCK: "no-device",
}


@cache
def loaded(scenario: str) -> Scenario:
    """One of our scenario files."""
    return load(SCENARIOS / f"{scenario}.yaml")


def plan(scenario: str, link: str) -> Plan:
    """The plan of one of our scenario files, on a host with Linux 6.12."""
    return loaded(scenario).for_link(Link(link)).on_kernel("6.12")


class Telling:
    """Writes a trace: each call is something that one client of `plan` lives through, later than the last."""

    def __init__(self, plan: Plan, second_open: str = "") -> None:
        self.plan = plan
        self.events: list[Event] = []
        self._second_open = second_open or SECOND_OPEN[plan.link]
        self.slowness: dict[str, float] = {
            group: max(1, wanted.bounds.min) for group, wanted in plan.expect.slowdown.items()
        }
        """How many milliseconds a group's round trips take, and how many times 10 ms its bulk."""
        self._slept = 0.0
        self._steps = {client: group.workload for group in plan.groups for client in group.clients}

    def say(self, client: str, what: What, step: int = -1, op: str = "", **detail: Value) -> Telling:
        at = 100.0 + len(self.events) / 100 + self._slept
        self.events.append(Event(at=at, client=client, what=what, step=step, op=op, detail=detail))
        return self

    def connects(self, *clients: str) -> Telling:
        for client in clients:
            self.say(client, What.STARTED, pid=1).say(client, What.CONNECTING).say(client, What.CONNECTED)
        return self

    def works(self, client: str, upto: int | None = None) -> Telling:
        """All steps answered (or the first `upto`), then it holds, unless its last step leaves."""
        steps = self._steps[client][:upto]
        for index, step in enumerate(steps):
            self.answered(client, index, step)
        if upto is None:
            self.say(client, What.LEFT if isinstance(steps[-1], Leave | AskAndLeave) else What.HOLDING)
        return self

    def answered(self, client: str, index: int, step: Step) -> None:
        if isinstance(step, Leave):
            return
        self.say(client, What.ASKED, index, step.op)
        if isinstance(step, OpenDevice):
            self.say(client, What.FACT, index, step.op, **{"second-open": self._second_open})
        if isinstance(step, MeetFault):
            self.meets(client, index, step)
        slowness = self.slowness.get(client.rpartition("/")[0], 1)
        if isinstance(step, BULK):
            self._slept += 0.01 * (slowness - 1)
        if not isinstance(step, AskAndLeave):
            self.say(client, What.ANSWERED, index, step.op, **compared(step))
        if isinstance(step, Ping):
            trip = round(1000 * slowness)
            self.events[-1] = msgspec.structs.replace(self.events[-1], trips=(trip,) * step.times)

    def floods(self, **more: Value) -> Telling:
        """Every flood has gone on, as fast as what it is compared with moved its bytes, or so much slower."""
        for client, steps in self._steps.items():
            if not isinstance(steps[-1], Flood):
                continue
            group = client.rpartition("/")[0]
            wanted = self.plan.expect.slowdown.get(group)
            rate = self._bulk(wanted.against) / 0.01 if wanted else 10 << 20
            asked = next(e.at for e in self.events if e.client == client and e.what is What.ASKED)
            last = self.events[-1].at + 0.01
            moved = round((last - asked) * rate / self.slowness.get(group, 1))
            self.say(client, What.PROGRESS, len(steps) - 1, "flood", sent=moved, received=moved, **more)
        return self

    def _bulk(self, group: str) -> int:
        return next(step.bytes for step in self._steps[f"{group}/0"] if isinstance(step, BULK))

    def meets(self, client: str, index: int, step: MeetFault) -> None:
        """As `MET` says; of a client of another pod, nothing at all."""
        assert self.plan.fault
        elsewhere = any(group.elsewhere and client in group.clients for group in self.plan.groups)
        sees, following, then, reconnect = (
            MET[FaultKind.SHIM_KILL] if elsewhere else self._met(self.plan.fault.kind)
        )[step.doing]
        own = {"next-send": following} if step.doing.has_connection else {}
        self.say(client, What.READY, index, step.op, doing=step.doing)
        self.say(client, What.FACT, index, step.op, **{"sees": sees, **own})
        self.say(client, What.NOTICED, index, step.op, doing=step.doing, sees=sees, seconds=0.025)
        own = {"then": then} if step.doing.has_connection else {}
        self.say(client, What.FACT, index, step.op, **own, reconnect=reconnect)
        guest = {Link.VIRTIO_SERIAL: GUEST_OF_A_PORT, Link.SERIAL_PROXY: GUEST_OF_A_PROXY}.get(
            self.plan.link, GUEST
        )
        if self.plan.fault.kind in guest and not elsewhere:
            told = guest[self.plan.fault.kind]
            when: dict[str, Value] = {} if told == "nothing" else {"guest-noticed": 0.04}
            self.say(client, What.FACT, -1, "", guest=told, **when, containers=self._left())

    def _left(self) -> str:
        """The containers that run after the fault."""
        assert self.plan.fault
        alive = [group for group in self.plan.groups if not self.plan.fault.kills(group.name)]
        count = sum(isinstance(step, Start) * group.count for group in alive for step in group.workload)
        kept = self.plan.link is Link.SERIAL_PROXY and self.plan.fault.kind is FaultKind.RESTORE
        return f"{count} running" if count and (kept or self.plan.fault.kind not in CUT) else "gone"

    def _met(self, kind: FaultKind) -> dict[While, Seen]:
        if self.plan.link is Link.VSOCK:
            return MET[kind]
        others = {Link.HYBRID_VSOCK: ON_A_PROCESS, Link.SERIAL_PROXY: BEHIND_A_PROXY}
        return others.get(self.plan.link, BEHIND_A_PORT).get(kind, MET[kind])

    def dies(self, client: str) -> Telling:
        """It is killed by the fault."""
        steps = self._steps[client]
        self.works(client, len(steps) - 1)
        self.say(client, What.READY, len(steps) - 1, steps[-1].op, doing="receiving")
        guest = "nothing" if self.plan.link is Link.VIRTIO_SERIAL else "eof"
        self.say(client, What.LOST, process="killed by SIGKILL")
        when: dict[str, Value] = {} if guest == "nothing" else {"guest-noticed": 0.04}
        return self.say(client, What.FACT, -1, "", guest=guest, **when, containers=self._left())

    def asks(self, client: str, step: int = 0) -> Telling:
        return self.say(client, What.ASKED, step, self._steps[client][step].op)

    def wrong(self, client: str, step: int, expected: str = "a", seen: str = "b") -> Telling:
        op = self._steps[client][step].op
        return self.asks(client, step).say(client, What.WRONG, step, op, expected=expected, seen=seen)

    def leaves(self, *clients: str) -> Telling:
        for client in clients:
            self.say(client, What.LEFT)
        return self

    def ended(self, *clients: str, doing: str = "holding") -> Telling:
        for client in clients:
            self.say(client, What.ENDED, doing=doing)
        return self


def compared(step: Step) -> dict[str, Value]:
    """What an answer says was compared."""
    match step:
        case Echo():
            return {"bytes": step.bytes * step.times}
        case Send() | Receive() | Copy():
            return {"bytes": step.bytes}
        case Exchange():
            return {"bytes": len(step.hear.encode())}
        case Ping():
            return {"times": step.times}
        case Connect():
            return {"seen": step.fails[0] if step.fails else "connected"}
        case Messages():
            return {"messages": step.times, "bytes": step.bytes}
        case Shutdown():
            epipe = dict.fromkeys(("own-write", "to-deaf-agent", "agents-write"), "EPIPE")
            return {"bytes": step.bytes, **epipe}
        case Containers():
            return {"running": step.running}
        case Run() | Finish():
            return {"stdout": str(step.stdout), "stderr": str(step.stderr), "exit": step.exit}
    return {}


def everybody_served(
    plan: Plan, second_open: str = "", slowness: dict[str, float] | None = None
) -> list[Event]:
    """All connect and are answered at the same time."""
    telling = Telling(plan, second_open).connects(*plan.clients)
    telling.slowness |= slowness or {}
    for client in plan.clients:
        telling.works(client)
    still = [client for client in plan.clients if holds(telling.events, client)]
    telling.floods()
    return (telling.leaves(*still) if plan.drain else telling.ended(*still)).events


def one_at_a_time(plan: Plan, second_open: str = "", served: int = 1) -> list[Event]:
    """Of those who do not leave, the first `served` are answered; the rest sees nothing, until those leave
    where the plan drains. Groups before them that leave were served and are gone."""
    leaving = itertools.takewhile(lambda group: isinstance(group.workload[-1], Leave), plan.groups)
    gone = [client for group in leaving for client in group.clients]
    clients = plan.clients[len(gone) :]
    telling = Telling(plan, second_open)
    for client in gone:
        telling.connects(client).works(client)
    telling.connects(*clients)
    first, rest = clients[:served], clients[served:]
    for client in rest:
        telling.asks(client)
    for client in first:
        telling.works(client)
    if not plan.drain:
        return telling.ended(*rest, doing="echo").ended(*first).events
    telling.leaves(*first)
    for client in rest:
        telling.works(client).leaves(client)
    return telling.events


def backlogged(plan: Plan) -> list[Event]:
    """The first is served, two wait in a backlog of 1, who come after them are refused; then all in turn."""
    first, one, two, *others = plan.clients
    telling = Telling(plan).connects(*plan.clients).works(first)
    for client in (one, two, *others):
        telling.asks(client)
    for client in others:
        telling.say(client, What.REFUSED, 0, "exchange", errno="ECONNRESET", error="reset by peer")
    for client, following in ((first, one), (one, two)):
        telling.leaves(client).works(following)
    return telling.leaves(two).events


def stale(plan: Plan) -> list[Event]:
    """Of the second group each client reads what was meant for one of the first's."""
    askers, others = plan.groups
    telling = Telling(plan)
    for asker in askers.clients:
        telling.connects(asker).works(asker)
    for other in others.clients:
        telling.connects(other).asks(other)
        telling.say(other, What.STALE, 0, "ping", request=7, seen="read a REPLY to request 7")
    return telling.leaves(*others.clients).events


def torn(plan: Plan) -> list[Event]:
    """One of two writers reads the other's answer, which then never gets it."""
    one, other = plan.clients
    telling = Telling(plan).connects(one, other).works(other, upto=1).wrong(one, 1).leaves(one)
    return telling.asks(other, 1).ended(other, doing="echo").events


def unanswered(plan: Plan) -> list[Event]:
    """The end of what each client sent ends the other direction as well."""
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.wrong(client, 0, "an answer of 65536 bytes", "its end after 0").leaves(client)
    return telling.events


def met(plan: Plan) -> list[Event]:
    """The fault comes, and does to each client what it does."""
    assert plan.fault
    victims = [client for group in plan.groups if plan.fault.kills(group.name) for client in group.clients]
    others = [client for client in plan.clients if client not in victims]
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.dies(client) if client in victims else telling.works(client)
    return telling.ended(*others).events


def right(plan: Plan) -> list[Event]:
    """What each of our scenarios leaves where the system is as it should be."""
    if plan.fault:
        return met(plan)
    if plan.scenario == "reliability-half-close" and plan.link is Link.HYBRID_VSOCK:
        return unanswered(plan)
    if plan.scenario == "multiple-clients-qemu-ga" and plan.link.is_vsock:
        return backlogged(plan)
    if plan.link.is_vsock or plan.link.is_proxied:
        return everybody_served(plan)
    special = {"serial-stale-reply": stale, "serial-two-writers": torn}
    return special.get(plan.scenario, one_at_a_time)(plan)


def without(events: Iterable[Event], client: str, *whats: What) -> list[Event]:
    """The trace without some events of one client (all of them if `whats` is empty)."""
    return [event for event in events if event.client != client or (whats and event.what not in whats)]


def holds(events: Iterable[Event], client: str) -> bool:
    """Whether the client's last event is that it holds."""
    return [event.what for event in events if event.client == client][-1] is What.HOLDING
