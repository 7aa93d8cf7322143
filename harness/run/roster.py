"""The clients of one run: their processes, their pipes, and the trace of what they told."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from harness.model.errors import InfrastructureError
from harness.model.plan import Plan
from harness.model.steps import Moment
from harness.model.trace import Event, What
from harness.run import control
from harness.run.nursery import Nursery
from harness.run.peer import Peer, Stage

Trace: TypeAlias = tuple[Event, ...]

_KILL_TAKES = 30.0
"""Seconds for killed clients to be gone; only one stuck in the kernel needs more."""


class Roster:
    """All clients of `plan`, none of them started. For one thread."""

    def __init__(self, plan: Plan, on_event: Callable[[Event], None]) -> None:
        self.peers = [Peer(group, index) for group in plan.groups for index in range(group.count)]
        self.served: list[Peer] = []
        """Those that came to hold, in that order; some may have left since."""
        self._events: list[Event] = []
        self._on_event = on_event
        self._pipes = select.epoll()
        self._by_fd: dict[int, Peer] = {}

    @property
    def trace(self) -> Trace:
        """What was seen so far, in order of time."""
        return tuple(sorted(self._events, key=lambda event: event.at))

    def fileno(self) -> int:
        """Readable while a pipe has something to be read."""
        return self._pipes.fileno()

    def at(self, stage: Stage) -> list[Peer]:
        """The clients at `stage`."""
        return [peer for peer in self.peers if peer.stage is stage]

    def past(self, group: str, moment: Moment) -> bool:
        """Whether `moment` has come for all clients of `group`."""
        return all(peer.past(moment) for peer in self.peers if peer.group.name == group)

    def spawn(self, peer: Peer, nursery: Nursery) -> None:
        """Ask for its process.

        :raise InfrastructureError: when the forker is gone.
        """
        peer.born(nursery.spawn())
        self._by_fd[peer.fileno()] = peer
        self._pipes.register(peer.fileno(), select.EPOLLIN)

    def news(self) -> Iterator[tuple[Peer, control.Report | None, int]]:
        """All that clients have told and nobody has read; None when a client's process is gone.

        The receiver owns the descriptor that came along, if it's not -1.
        """
        for fd, _ in self._pipes.poll(0, maxevents=len(self.peers)):
            peer = self._by_fd[fd]
            for report, passed in peer.messages():
                yield peer, report, passed

    def saw(self, peer: Peer, event: Event) -> None:
        """Take an event into the trace, but none that comes after the client's end, which was decided."""
        if peer.over:
            return
        peer.saw(event)
        self._events.append(event)
        if peer.stage is Stage.HOLDING and peer not in self.served:
            self.served.append(peer)
        self._on_event(event)

    def record(self, peer: Peer, what: What, **detail: str | int | float | bool | None) -> None:
        """Take an event into the trace that the client can't tell by itself."""
        at = time.monotonic()
        self.saw(peer, Event(at=at, client=peer.name, what=what, step=peer.step, op=peer.op, detail=detail))

    def learned(self, peer: Peer, **facts: str | float) -> None:
        """Take facts about a client into the trace that others know, also after its end."""
        event = Event(at=time.monotonic(), client=peer.name, what=What.FACT, detail=dict(facts))
        self._events.append(event)
        self._on_event(event)

    def gone(self, peer: Peer) -> None:
        """Its process is no more. If it had not told its end before, it ended by itself: LOST."""
        if not peer.over:
            self.record(peer, What.LOST, process=peer.crash or "gone with its forker", doing=peer.doing)
        peer.stage = Stage.GONE

    def end(self, peers: Iterable[Peer]) -> None:
        """End clients where they stand, those at work first, so that none sees what another's end does.

        One on a shared connection that still waits for an answer is garbled: nothing that belongs to it came.
        """
        ending = sorted((peer for peer in peers if not peer.over), key=lambda peer: not peer.unfinished)
        for peer in ending:
            if peer.shares and peer.blocked and peer.step >= 0:
                self.record(peer, What.WRONG, expected=f"a reply to its own {peer.op}", seen="nothing")
            started = peer.stage is not Stage.PLANNED
            self.record(peer, What.ENDED, doing=peer.doing)
            if not started:
                peer.stage = Stage.GONE
        for peer in ending:
            peer.kill()

    def close(self) -> None:
        """Kill every process that is left, and return when all are gone.

        :raise InfrastructureError: when one is still there after 30 s.
        """
        end = time.monotonic() + _KILL_TAKES
        while left := [peer for peer in self.peers if peer.pipe is not None]:
            if time.monotonic() > end:
                raise InfrastructureError(
                    f"{left[0].name} and perhaps others still there {_KILL_TAKES:.0f} s after SIGKILL",
                    hint="they are stuck in the kernel: ps -o pid,stat,wchan,args",
                )
            for peer in left:
                peer.kill()
            self._pipes.poll(1)
            for _, _, passed in self.news():
                if passed >= 0:
                    os.close(passed)
        self._pipes.close()
