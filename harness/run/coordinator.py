"""Runs a plan's clients, each a process, and gathers what they saw into one trace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping

from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from harness.model.link import Endpoint
from harness.model.plan import Plan, Schedule
from harness.model.steps import Flood, Moment
from harness.model.trace import Event, What
from harness.run import control
from harness.run.meeting import Deed, Meeting
from harness.run.nursery import Nursery
from harness.run.patience import Attentive, Patience
from harness.run.peer import NEEDS_CONNECTION, NEEDS_GROUP, Peer, Stage
from harness.run.roster import Roster, Trace

_LOOK = 0.05
"""Seconds of a plain machine between two looks at what only time changes."""

_ATTENTIVE = 4 * _LOOK
"""The same for a look that came too late: what is beyond it is no silence of the clients'."""


_MOVES = 1.0
"""The same for a flood to tell, once the others are done, that it moves: so it did while they talked."""


class PlanOverdue(DeadlinePassed):
    """The plan did not end by its deadline. All clients were ended; `trace` is complete up to then."""

    def __init__(self, summary: str, trace: Trace) -> None:
        super().__init__(summary, hint="the trace tells who waits for what; a slow machine needs more time")
        self.trace = trace


async def run_plan(
    plan: Plan,
    endpoint: Endpoint,
    *,
    deadline: Deadline,
    slowness: float,
    on_event: Callable[[Event], None] | None = None,
    nursery: Nursery | None = None,
    deed: Deed | None = None,
    elsewhere: Endpoint | None = None,
    tools: Mapping[str, control.Tool] | None = None,
) -> Trace:
    """Run every client of `plan` against `endpoint` and return what they saw, in order of time.

    Returns when all have left or were ended; no client is left then, nor when it raises or is cancelled.
    A client that waits, crashes, or is killed is an event of the trace, never an error of this function.

    :param slowness: how many times slower than a plain machine this one is; stretches all patience.
    :param on_event: is called with each event as it arrives; those of two clients may come out of order.
    :param nursery: forks the clients; without one, a nursery of this run's own is made.
    :param deed: does the plan's fault, which without one does not come.
    :param elsewhere: where the groups' clients connect that are not for `endpoint`.
    :param tools: what the clients of those groups run that are tools, by the group's name.
    :raise HarnessError: what `deed` raises.
    :raise PlanOverdue: at the deadline; carries the trace.
    :raise InfrastructureError: when clients can't be forked, or not be killed.
    """
    with contextlib.ExitStack() as stack:
        if nursery is None:
            nursery = stack.enter_context(Nursery())
        roster = Roster(plan, on_event or (lambda event: None))
        stack.callback(roster.close)
        coordinator = stack.enter_context(
            _Coordinator(plan, (endpoint, elsewhere), slowness, nursery, roster, deed, tools or {})
        )
        await coordinator.run(deadline)
        return roster.trace


class _Coordinator:
    """Decides what is due. Everything happens in `_turn`, in one thread; the pipes only wake it."""

    def __init__(
        self,
        plan: Plan,
        endpoints: tuple[Endpoint, Endpoint | None],
        slowness: float,
        nursery: Nursery,
        roster: Roster,
        deed: Deed | None,
        tools: Mapping[str, control.Tool],
    ) -> None:
        self._plan = plan
        self._tools = tools
        self._endpoint, self._elsewhere = endpoints
        self._slowness = slowness
        self._nursery = nursery
        self._roster = roster
        self._clock = Attentive(_ATTENTIVE * slowness)
        self._patience = Patience(slowness, self._clock)
        self._connections: dict[str, int] = {}  # group → descriptor of the connection it shares
        self._draining = False
        self._done: tuple[float, float] | None = None  # when all workloads were: by each of two clocks
        self._wake = asyncio.Event()
        self._meeting = Meeting(plan, roster, deed, self._wake.set)

    def __enter__(self) -> _Coordinator:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._connections.values():
            os.close(fd)

    async def run(self, deadline: Deadline) -> None:
        """Turn after turn, until every client is at its end.

        :raise PlanOverdue: at `deadline`, with all clients ended.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._roster, self._wake.set)
        try:
            while not self._turn():
                if deadline.expired:
                    self._roster.end(self._roster.peers)
                    what = f"{self._plan.scenario}: clients not done within {deadline.seconds:.1f} s"
                    raise PlanOverdue(what, self._roster.trace)
                await self._news(deadline)
        finally:
            loop.remove_reader(self._roster)
            await self._meeting.close()

    async def _news(self, deadline: Deadline) -> None:
        """Wait until a pipe has something, or it's time to look at what only time changes."""
        seconds = _LOOK * self._slowness
        remaining = deadline.remaining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if remaining is None else min(seconds, remaining)):
                await self._wake.wait()
        self._wake.clear()

    def _turn(self) -> bool:
        """Take all news, then do all that is due. Whether the run is over."""
        self._clock.look()
        for peer, report, fd in self._roster.news():
            self._take(peer, report, fd)
        self._start_due()
        self._let_go()
        if self._meeting.turn():
            self._patience.news()
            return False
        unfinished = [peer for peer in self._roster.peers if peer.unfinished]
        if not unfinished:
            return self._wind_up()
        if any(peer.busy for peer in unfinished):
            return False
        stuck = [peer for peer in unfinished if peer.blocked]
        if stuck and not self._lost_patience(stuck):
            return False
        # Where none is stuck, what the others are parked for can't come while the holding ones hold.
        if not self._drain_one():
            self._roster.end(stuck or unfinished)
            self._patience.news()
        return False

    def _wind_up(self) -> bool:
        """All workloads are at their ends: let the holding ones go. Whether all are gone."""
        self._done = self._done or (time.monotonic(), self._clock())
        at, looked = self._done
        flooding = [
            peer for peer in self._roster.at(Stage.HOLDING) if isinstance(peer.group.workload[-1], Flood)
        ]
        if any(peer.moved < at for peer in flooding) and self._clock() - looked < _MOVES * self._slowness:
            return False
        if not (self._plan.drain and self._drain_one()):
            self._roster.end(self._roster.at(Stage.HOLDING))
        return all(peer.stage is Stage.GONE for peer in self._roster.peers)

    def _take(self, peer: Peer, report: control.Report | None, fd: int) -> None:
        match report:
            case control.Born():
                peer.tell(self._assignment(peer))
            case control.Saw(event):
                if peer.unfinished:
                    self._patience.news()
                if event.what is What.PINGED:
                    self._patience.back(peer.name)
                self._roster.saw(peer, event)
                self._meeting.saw(event)
                if event.what is What.REFUSED and peer.shares:
                    self._refuse_group(peer, event)
            case control.Connection():
                self._connections[peer.group.name] = fd
            case control.Crashed(error):
                peer.crash = error
            case control.Died(status):
                peer.crash = peer.crash or _ending(status)
            case None:
                self._roster.gone(peer)
                self._patience.news()

    def _refuse_group(self, opener: Peer, event: Event) -> None:
        """Who was to share the connection of `opener` was refused with it."""
        for peer in self._roster.peers:
            if peer.group is opener.group and not peer.over:
                self._roster.record(peer, What.REFUSED, **event.detail)
                peer.kill()

    def _start_due(self) -> None:
        """Start who may start: the next one, or every one whose `after` is there."""
        planned = self._roster.at(Stage.PLANNED)
        if self._plan.schedule is Schedule.SEQUENTIAL:
            others = len(self._roster.peers) - len(planned)
            due = planned[:1] if len(self._roster.at(Stage.GONE)) == others else []
        else:
            due = [
                peer
                for peer in planned
                if peer.group.after is None or self._roster.past(peer.group.after, Moment.HOLDING)
            ]
        for peer in due:
            self._roster.spawn(peer, self._nursery)
            self._patience.news()

    def _assignment(self, peer: Peer) -> control.Begin:
        sequential = self._plan.schedule is Schedule.SEQUENTIAL
        role = control.Role.ALONE
        if peer.shares:
            role = control.Role.SHARER if peer.index else control.Role.OPENER
        return control.Begin(
            client=peer.name,
            scenario=self._plan.scenario,
            steps=peer.group.workload,
            endpoint=(self._elsewhere if peer.group.elsewhere else None) or self._endpoint,
            initiated=peer.group.opener(peer.index),
            role=role,
            leave=sequential,
            slowness=self._slowness,
            tool=self._tools.get(peer.group.name),
        )

    def _let_go(self) -> None:
        """Tell the parked clients whose wait is over."""
        for peer in self._roster.peers:
            if peer.waits and peer.parked and self._roster.past(peer.waits.group, peer.waits.event):
                peer.go()
                self._patience.news()
        for name, fd in self._connections.items():
            group = [peer for peer in self._roster.peers if peer.group.name == name and not peer.over]
            for peer in group:
                if peer.parked == NEEDS_CONNECTION:
                    peer.hand(fd)
            if all(peer.parked == NEEDS_GROUP for peer in group):
                for peer in group:
                    peer.go()

    def _lost_patience(self, stuck: list[Peer]) -> bool:
        """Whether `stuck`, who wait for the system under test, waited long enough. Asks for round trips."""
        holding = self._roster.at(Stage.HOLDING)
        pinging = {peer.name: peer for peer in holding if peer.pings}
        shared = any(peer.shares for peer in stuck)
        midway = any(peer.answered and not peer.shares for peer in stuck)
        self._patience.among(pinging.keys())
        if self._patience.over(
            rounds=bool(pinging) and not midway,
            blind=(shared or len(pinging) < len(holding)) and not midway,
            quick=self._draining,
        ):
            self._end_mute(pinging)
            return True
        for name in self._patience.ask():
            pinging[name].tell(control.Ping())
        return False

    def _end_mute(self, pinging: dict[str, Peer]) -> None:
        """Who got no answer to a round trip in all the patience there is has lost its connection."""
        for name in self._patience.unanswered:
            self._roster.record(pinging[name], What.LOST, error="no answer to a round trip while holding")
            pinging[name].kill()

    def _drain_one(self) -> bool:
        """With `drain`, let the one who holds longest leave. False if nobody leaves, now or already."""
        if self._roster.at(Stage.LEAVING):
            return True
        holding = [peer for peer in self._roster.served if peer.stage is Stage.HOLDING]
        if not self._plan.drain or not holding:
            return False
        self._draining = True
        holding[0].leave()
        self._patience.news()
        return True


def _ending(status: int) -> str:
    """How a process ended by itself, from its exit code as `os.waitstatus_to_exitcode` gives it."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
