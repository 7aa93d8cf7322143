"""Traces written step by step: what each client of a plan lives through."""

from __future__ import annotations

import msgspec

from harness.model.fault import FaultKind, While
from harness.model.link import Link
from harness.model.plan import Initiated, Plan
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
from harness.model.trace import BY_SIGKILL, Event, What
from tests.unit.fates import (
    BEHIND_A_PORT,
    BEHIND_A_PROXY,
    CALLING,
    CUT,
    DEAF,
    GUEST,
    GUEST_OF_A_PORT,
    GUEST_OF_A_PROXY,
    MET,
    ON_A_PROCESS,
    Seen,
)

Value = str | int | float | bool | None

SECOND_OPEN = {
    Link.VSOCK: "no-device",
    Link.VIRTIO_SERIAL: "EBUSY",
    Link.VIRTCONSOLE: "opened",
    Link.ISA_SERIAL: "opened",
    Link.SERIAL_PROXY: "EBUSY",
    Link.HYBRID_VSOCK: "no-device",
}


class Telling:
    """Writes a trace: each call is something that one client of `plan` lives through, later than the last."""

    def __init__(self, plan: Plan, second_open: str = "") -> None:
        self.plan = plan
        self.events: list[Event] = []
        self._second_open = second_open or SECOND_OPEN[plan.link]
        self.slowness: dict[str, float] = {
            group: max(1, wanted.bounds.min) for group, wanted in plan.expect.slowdown.items()
        }
        """Milliseconds that a group's, or a client's, round trips take, and how many times 10 ms its bulk."""
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
        slowness = self.slowness.get(client, self.slowness.get(client.rpartition("/")[0], 1))
        if isinstance(step, Flood):
            self.say(client, What.PROGRESS, index, step.op, sent=1, received=1)
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
        calling = self._is_called(client, step)
        if calling:
            sees = "called" if self.plan.fault.kind is FaultKind.SHIM_KILL else "nothing"
        own = {"next-send": following} if step.doing.has_connection else {}
        self.say(client, What.READY, index, step.op, doing=step.doing)
        self.say(client, What.FACT, index, step.op, **{"sees": sees, **own})
        self.say(client, What.NOTICED, index, step.op, doing=step.doing, sees=sees, seconds=0.025)
        own = {"then": then} if step.doing.has_connection else {}
        self.say(client, What.FACT, index, step.op, **own, reconnect=reconnect)
        guest = GUEST if self.plan.link.is_vsock else GUEST_OF_A_PORT
        guest = GUEST_OF_A_PROXY if self.plan.link.is_proxied else guest
        if self.plan.fault.kind in guest and not elsewhere:
            told = CALLING.get(self.plan.fault.kind, "nothing") if calling else guest[self.plan.fault.kind]
            when: dict[str, Value] = {} if told == "nothing" else {"guest-noticed": 0.04}
            left = self._left()
            gone = self._gone(client) if left == "gone" else {}
            self.say(client, What.FACT, -1, "", guest=told, **when, **gone, containers=left)

    def _gone(self, client: str) -> dict[str, Value]:
        """When the containers were that the client had started, if it had."""
        started = any(isinstance(step, Start) for step in self._steps[client])
        return {"containers-gone": 0.05} if started else {}

    def _is_called(self, client: str, step: MeetFault) -> bool:
        """Whether the guest connects to it again and again."""
        opener = next(g.opener(g.clients.index(client)) for g in self.plan.groups if client in g.clients)
        return step.doing is While.CONNECTING and opener is Initiated.GUEST

    def _left(self) -> str:
        """The containers that run after the fault."""
        assert self.plan.fault
        deaf = self.plan.link in DEAF
        alive = [group for group in self.plan.groups if deaf or not self.plan.fault.kills(group.name)]
        count = sum(isinstance(step, Start) * group.count for group in alive for step in group.workload)
        kept = self.plan.fault.kind is FaultKind.RESTORE and (deaf or self.plan.link.is_proxied)
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
        doing = steps[-1].doing.value if isinstance(steps[-1], MeetFault) else ""
        self.say(client, What.READY, len(steps) - 1, steps[-1].op, doing=doing)
        guest = "eof" if self.plan.link.is_vsock or self.plan.link.is_proxied else "nothing"
        self.say(client, What.LOST, process=BY_SIGKILL)
        when: dict[str, Value] = {} if guest == "nothing" else {"guest-noticed": 0.04}
        when |= {} if self.plan.link in DEAF else self._gone(client)
        return self.say(client, What.FACT, -1, "", guest=guest, **when, containers=self._left())

    def asks(self, client: str, step: int = 0) -> Telling:
        return self.say(client, What.ASKED, step, self._steps[client][step].op)

    def stale(self, client: str) -> Telling:
        """It reads what was meant for another."""
        self.asks(client)
        op = self._steps[client][0].op
        return self.say(client, What.STALE, 0, op, request=7, seen="read a REPLY to request 7")

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
            deaf = dict.fromkeys(("to-deaf-agent", "agents-write"), step.deaf.value)
            return {"bytes": step.bytes, "answer": step.answer.value, "own-write": "EPIPE", **deaf}
        case Containers():
            return {"running": step.running}
        case Run() | Finish():
            return {"stdout": str(step.stdout), "stderr": str(step.stderr), "exit": step.exit}
    return {}
