"""What the coordinator knows about one client and its process."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
from collections.abc import Iterator
from enum import Enum, auto

from harness.model.plan import Connection, GroupPlan
from harness.model.steps import MeetFault, Moment, WaitFor
from harness.model.trace import Event, What
from harness.run import control

_DEATH_TAKES = 5.0
"""Seconds for a process that has closed its descriptors to be gone."""


class Stage(Enum):
    """How far a client is. `LEAVING`: told to leave, or at its end, while its process is still there."""

    PLANNED = auto()
    WORKING = auto()
    HOLDING = auto()
    LEAVING = auto()
    GONE = auto()


NEEDS_CONNECTION = "waits for its group's connection"
NEEDS_GROUP = "waits for its group"
NEEDS_FAULT = "waits for the fault"
NEEDS_AFTER = "waits for the fault to be over"


class Peer:
    """One client: its place in the plan, its process's control pipe, and what its events say."""

    def __init__(self, group: GroupPlan, index: int) -> None:
        self.group = group
        self.index = index
        self.name = group.clients[index]
        self.stage = Stage.PLANNED
        self.pipe: socket.socket | None = None
        self.over = False  # has no connection any more
        self.blocked = False  # within connect(), or between asking and the answer
        self.answered = False  # something from the agent has come
        self.pings = False  # holds, and can make round trips
        self.parked = ""  # what it waits for that the coordinator tells it
        self.waits: WaitFor | None = None  # the step of that kind it is in
        self.step = -1
        self.op = ""
        self.moved = 0.0  # when it last told that bytes had moved; infinite once all of a flood's have
        self.crash = ""  # how its process failed
        self._pidfd = -1
        self._reaped = False

    @property
    def shares(self) -> bool:
        """Whether its connection is its group's."""
        return self.group.connection is Connection.SHARED

    @property
    def unfinished(self) -> bool:
        """Whether it still has something of its workload to do."""
        return self.stage in (Stage.PLANNED, Stage.WORKING)

    @property
    def busy(self) -> bool:
        """Whether it will go on by itself: waits neither for the system under test nor for other clients."""
        return self.stage is Stage.WORKING and not self.blocked and not self.parked

    @property
    def doing(self) -> str:
        """What it does now, for people."""
        match self.stage:
            case Stage.PLANNED:
                return "not started"
            case Stage.WORKING:
                return self.parked or self.op or "starting"
            case _:
                return self.stage.name.lower()

    def past(self, moment: Moment) -> bool:
        """Whether `moment` has come for this client. One without a connection has left, in whatever way."""
        match moment:
            case Moment.PARKED:
                return self.over or self.stage is Stage.HOLDING or self.waits is not None
            case Moment.LEFT:
                return self.over
            case Moment.HOLDING:
                return self.over or self.stage is Stage.HOLDING
            case Moment.ENDED:
                return self.stage is Stage.GONE

    def saw(self, event: Event) -> None:
        """Take note of an event of its own."""
        if event.what is not What.PINGED:
            self.step, self.op = event.step, event.op
        match event.what:
            case What.STARTED if self.shares and self.index:
                self.parked = NEEDS_CONNECTION
            case What.CONNECTING:
                self.blocked, self.op = True, "connect"
            case What.CONNECTED:
                self.blocked = False
                self.parked = NEEDS_GROUP if self.shares else ""
            case What.ASKED:
                step = self.group.workload[event.step]
                if isinstance(step, WaitFor):
                    self.waits, self.parked = step, f"waits for {step.group}: {step.event}"
                self.blocked = self.waits is None and not isinstance(step, MeetFault)
            case What.READY:
                self.parked = NEEDS_FAULT
            case What.NOTICED:
                self.parked = NEEDS_AFTER
            case What.PROGRESS:
                self.moved = math.inf if event.detail.get("through") else event.at
                self.answered = self.answered or bool(event.detail.get("received"))
            case What.ANSWERED:
                self.answered = self.answered or self.waits is None
                self.blocked, self.waits = False, None
            case What.WRONG | What.STALE:
                self.answered, self.blocked = True, False
            case What.HOLDING:
                self.stage, self.pings = Stage.HOLDING, bool(event.detail.get("pings"))
            case What.LEFT | What.REFUSED | What.LOST | What.ENDED:
                self.over, self.blocked, self.waits, self.parked = True, False, None, ""
                self.stage = Stage.LEAVING

    def born(self, pipe: socket.socket) -> None:
        """Its process was asked for; `pipe` is this side's end of its control pipe, owned from here on."""
        self.pipe = pipe
        self.stage = Stage.WORKING

    def go(self, order: control.Go | None = None) -> None:
        """Tell it that what it is parked for is there."""
        self.parked = ""
        self.tell(order or control.Go())

    def hand(self, connection: int) -> None:
        """Give it its group's connection."""
        self.parked = ""
        self.tell(control.Connection(), connection)

    def leave(self) -> None:
        """Tell a holding client to leave."""
        self.stage = Stage.LEAVING
        self.tell(control.Leave())

    def fileno(self) -> int:
        """Of the control pipe, -1 without one."""
        return -1 if self.pipe is None else self.pipe.fileno()

    def messages(self) -> Iterator[tuple[control.Report | None, int]]:
        """All that can be read now, with descriptors that came along; None at the pipe's end, closing it."""
        while self.pipe is not None:
            try:
                report, fd = control.receive_report(self.pipe)
            except BlockingIOError:
                return
            if isinstance(report, control.Born):
                self._pidfd, fd = fd, -1
            self._reaped = self._reaped or isinstance(report, control.Died)
            if report is None:
                self._release()
            yield report, fd

    def tell(self, order: control.Order, *fds: int) -> None:
        """Send `order`; nothing if the client has just died, which its pipe tells anyway."""
        if self.pipe is None:
            return
        try:
            control.send(self.pipe, order, *fds)
        except (BrokenPipeError, ConnectionResetError):
            return

    def kill(self) -> None:
        """SIGKILL; for one that is just being forked, the end of its pipe. Its death is told on the pipe."""
        if self.pipe is None:
            return
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return
        else:
            self.pipe.shutdown(socket.SHUT_WR)

    def _release(self) -> None:
        assert self.pipe is not None
        self.pipe.close()
        self.pipe = None
        if self._pidfd < 0:
            return
        if not self._reaped:  # its forker is gone; the kernel is at ending it
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(_DEATH_TAKES * 1000)
        os.close(self._pidfd)
        self._pidfd = -1
