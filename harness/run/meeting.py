"""The coordinator's part in a fault: gather who meets it, have it done, let them look, have it undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Protocol

import msgspec

from harness.model.factwords import GONE, NOTHING
from harness.model.fault import FaultKind
from harness.model.link import Endpoint
from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.model.trace import CONTAINERS_GONE, GUEST_NOTICED, Event, What
from harness.run import control
from harness.run.peer import Peer
from harness.run.roster import Roster

_TAKEN = frozenset({FaultKind.GUEST_RESET, FaultKind.UNPLUG})
"""After these the connection of a port's client, if it goes on, leads to another opening of the port."""


class GuestEnd(msgspec.Struct, frozen=True):
    """How a connection ended in the guest, and when at the latest (CLOCK_MONOTONIC of the host)."""

    how: str
    at: float


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """When a fault was done, `at`, and when it `began`: before that nobody can have seen it.

    Times are CLOCK_MONOTONIC's, taken just before. Mostly they are one moment; a restore begins by saving the
    VM, which stops it, and is done by its end.
    """

    began: float
    at: float


class After(msgspec.Struct, frozen=True, kw_only=True):
    """What is there after a fault: where the agent is now (None: where it was), how the connections of
    clients ended as the guest saw it, by client (None: there is no guest to ask), and how many containers
    run in the guest, all clients' together (None: as before). `removed`: when at the latest the agent had
    reaped the last container of a client that went (CLOCK_MONOTONIC of the host). `agent`: whether there is
    one."""

    endpoint: Endpoint | None = None
    agent: bool = True
    ended: Mapping[str, GuestEnd] | None = None
    containers: int | None = None
    removed: Mapping[str, float] = {}

    def learned(self, client: str, when: Done) -> dict[str, str | float]:
        """The facts about a client that the guest knows. What ended before the fault began is none of its."""
        facts: dict[str, str | float] = {}
        if self.ended is not None:
            facts["guest"] = NOTHING
            end = self.ended.get(client)
            if end and end.at >= when.began:
                facts |= {"guest": end.how, GUEST_NOTICED: round(end.at - when.at, 4)}
        gone = self.removed.get(client)
        if gone is not None and gone >= when.began:
            facts[CONTAINERS_GONE] = round(gone - when.at, 4)
        if self.containers is not None:
            facts["containers"] = f"{self.containers} running" if self.containers else GONE
        return facts


class Deed(Protocol):
    """The fault of one run."""

    async def do(self, kill: Callable[[], None]) -> Done:
        """Do it; when that was. `kill` kills the clients of its group."""

    async def undo(self) -> After:
        """Undo what can be undone, once the clients have seen what there is to see."""


class _Stage(Enum):
    ASSEMBLING = auto()
    GATHERING = auto()
    DOING = auto()
    WATCHING = auto()
    UNDOING = auto()
    OVER = auto()


_NEXT = {
    _Stage.ASSEMBLING: (What.READY, 1, _Stage.GATHERING),
    _Stage.GATHERING: (What.READY, 2, _Stage.DOING),
    _Stage.WATCHING: (What.NOTICED, 1, _Stage.UNDOING),
}
"""What every client must have told, and how often, before the next stage. They assemble first: one that
sends while another still connects makes that one wait."""


class Meeting:
    """Of the clients of `plan` whose workload has a step `meet-fault`. `wake` is called at news."""

    def __init__(self, plan: Plan, roster: Roster, deed: Deed | None, wake: Callable[[], None]) -> None:
        self._fault = plan.fault
        self._roster = roster
        self._deed = deed
        self._wake = wake
        self._stage = _Stage.ASSEMBLING if plan.fault and deed else _Stage.OVER
        self._told: Counter[tuple[str, What]] = Counter()
        self._task: asyncio.Task[Any] | None = None
        self._when = Done(began=0.0, at=0.0)

    def saw(self, event: Event) -> None:
        """Take note of what a client told."""
        self._told[event.client, event.what] += 1

    def turn(self) -> bool:
        """Do what is due. Whether clients wait for something that is being done.

        :raise HarnessError: what went wrong with that.
        """
        if self._stage in _NEXT:
            told, times, following = _NEXT[self._stage]
            there = self._there()
            if there and all(self._told[peer.name, told] >= times for peer in there):
                self._begin(following)
        if self._task is not None and self._task.done():
            self._done(self._task.result())
        return self._task is not None

    def _begin(self, stage: _Stage) -> None:
        self._stage = stage
        if stage is _Stage.GATHERING:
            for peer in self._there():
                peer.go()
            return
        assert self._deed is not None
        doing = self._deed.do(self._kill) if stage is _Stage.DOING else self._deed.undo()
        self._task = asyncio.create_task(doing)
        self._task.add_done_callback(lambda task: self._wake())

    async def close(self) -> None:
        """Stop what is being done."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    def _done(self, result: Any) -> None:
        self._task = None
        if self._stage is _Stage.DOING:
            self._stage = _Stage.WATCHING
            self._when = result
            order = control.Go(at=result.at, began=result.began)
        else:
            self._stage = _Stage.OVER
            taken = self._fault is not None and self._fault.kind in _TAKEN
            order = control.Go(endpoint=result.endpoint, agent=result.agent, taken=taken)
            for peer in self._meeting():
                if not peer.group.elsewhere and (facts := result.learned(peer.name, self._when)):
                    self._roster.learned(peer, **facts)
        for peer in self._there():
            peer.go(control.Go(at=order.at, began=order.began) if peer.group.elsewhere else order)

    def _meeting(self) -> list[Peer]:
        """All whose workload has the step."""
        return [
            peer
            for peer in self._roster.peers
            if any(isinstance(step, MeetFault) for step in peer.group.workload)
        ]

    def _there(self) -> list[Peer]:
        """Those of them who are not at their end."""
        return [peer for peer in self._meeting() if not peer.over]

    def _kill(self) -> None:
        assert self._fault is not None
        for peer in self._roster.peers:
            if self._fault.kills(peer.group.name):
                peer.kill()
