"""A client in its step `meet-fault`: in the middle of something, it sees what the fault does to that.

It talks to its socket directly: each errno is to be that of the one call that gave it, and a sender that also
read would see its reads' errors.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable

from harness.agent.errnos import errno_name
from harness.agent.wire import Frame, Kind, encode
from harness.guest.errors import ConnectionLost
from harness.link.connect import connect
from harness.link.listen import Listener, listening
from harness.model.factwords import BLOCKED, CALLED, EARLY, GONE, NOTHING, OK, SERVED, SILENT
from harness.model.fault import While
from harness.model.plan import Initiated
from harness.model.steps import MeetFault
from harness.model.trace import What
from harness.run import control
from harness.run.calls import Calls
from harness.run.doing import ACTIVITIES, Idle
from harness.run.fresh import FIRST, NEXT, answer, dialled, reconnected, round_trip
from harness.run.line import FLAGS, Ended, Line, ping
from harness.run.patience import ROUNDS

ANSWER_TAKES = (3.0, 1.2)
"""Seconds for a round trip, at least, and for each time that this machine is slower than a plain one; the
least where there is no agent: that none answers is seen in the same time on any machine."""

BETWEEN = 0.03
"""Seconds of a plain machine between two connections after the fault; before it each waits for its answer."""


class Encounter:
    """One client's meeting with the fault, over `sock`; the coordinator is at the other end of `pipe`.

    `through` is all of it, in the order of what follows.
    """

    def __init__(
        self, step: MeetFault, sock: socket.socket, begin: control.Begin, pipe: socket.socket, *, seed: int
    ) -> None:
        self.ended = False
        """Whether the connection is no more."""
        self._step = step
        self._line = Line(sock)
        self._activity = ACTIVITIES.get(step.doing, Idle)(self._line, seed)
        self._endpoint = begin.endpoint
        self._initiated = begin.initiated
        self._pipe = pipe
        self._began = 0.0
        self._fault_at: float | None = None
        self._stack = contextlib.ExitStack()
        self._listener: Listener | None = None  # of who is listening
        self._calls: Calls | None = None  # of the guest, where it is that which connects
        least, each = ANSWER_TAKES
        self._patience = max(least, each * begin.slowness)
        self._between = BETWEEN * begin.slowness

    @property
    def alive(self) -> bool:
        """Whether the connection is known to be of use still."""
        return not self.ended and self._step.doing.has_connection

    def through(self, label: str, tell: Callable[..., None]) -> dict[str, str | float]:
        """All of it; what was seen and when.

        :param tell: is told READY, NOTICED and facts, as ``tell(what, name=value, …)``.
        :raise ConnectionLost: the connection ended before the fault.
        """
        with self._stack:
            return self._through(label, tell)

    def _through(self, label: str, tell: Callable[..., None]) -> dict[str, str | float]:
        doing = self._step.doing
        self.introduce("" if self._is_called else label)  # by it the agent tells of those calls
        tell(What.READY, doing="nothing yet")
        control.receive_order(self._pipe)  # all are there
        self.begin(label)
        tell(What.READY, doing=doing.value)
        sees, seconds = self.notice()
        tell(What.FACT, sees=sees, **({"next-send": self.next_send()} if doing.has_connection else {}))
        seconds = round(seconds, 4)
        tell(What.NOTICED, doing=doing.value, sees=sees, seconds=seconds)
        self.over()
        facts = {"then": self.then()} if doing.has_connection else {}
        if not self._has_one_client or facts["then"] not in (SERVED, SILENT):
            facts["reconnect"] = self.reconnect()
        tell(What.FACT, **facts)
        return {"sees": sees, "seconds": seconds}

    @property
    def _has_one_client(self) -> bool:
        """Whether there is no other connection while this one is there."""
        return self._endpoint.link.is_serial_port and not self._endpoint.link.is_proxied

    @property
    def _is_called(self) -> bool:
        """Whether the guest is to connect to this client, again and again."""
        return self._step.doing is While.CONNECTING and self._initiated is Initiated.GUEST

    def introduce(self, label: str) -> None:
        """Be known to the agent by `label`.

        :raise ConnectionLost: it does not answer.
        """
        first = self._line.work + FIRST
        self._line.write(encode(Frame(Kind.HELLO, first, json.dumps({"label": label}).encode())))
        if self._has_one_client:
            self._line.overlook()
        try:
            if not self._line.until(first, Kind.REPLY, time.monotonic() + 10 * self._patience):
                raise ConnectionLost("silent", "meet-fault: no answer before the fault")
            self._line.other = self._activity.take
        except Ended as end:
            raise _too_early(end.why) from end

    def begin(self, label: str) -> None:
        """Do what there is to do until it goes well.

        :raise ConnectionLost: it does not.
        """
        try:
            if self._is_called:
                self._have_called(label)
                return
            if self._step.doing is While.CONNECTING:
                connect(self._endpoint).close()
                return
            if self._step.doing is While.LISTENING:
                self._listener = self._stack.enter_context(listening(self._endpoint))
                if (said := dialled(self._listener, self._endpoint, self._patience)) != SERVED:
                    raise _too_early(said)
                return
            self._activity.start()
            poll = select.poll()
            poll.register(self._line.sock, self._activity.events)
            while self._step.doing is not While.IDLE:
                poll.poll()
                if self._activity.move():
                    return
        except Ended as end:
            raise _too_early(end.why) from end
        except OSError as error:
            raise ConnectionLost(
                errno_name(error), f"meet-fault: connect() before the fault: {error}"
            ) from error

    def notice(self) -> tuple[str, float]:
        """Go on until the fault shows, or for `within` seconds after it: what was seen, and seconds after it.

        They are negative for what was seen after the fault had begun and before it was done: it is `EARLY`.

        :raise ConnectionLost: the connection ended before the fault began.
        """
        match self._step.doing:
            case While.CONNECTING if self._calls:
                seen, at = self._still_called(self._calls)
            case While.CONNECTING:
                seen, at = self._refused()
            case While.LISTENING:
                seen, at = self._called()
            case _:
                seen, at = self._ended()
        fault_at = self._wait()
        if at < self._began:
            raise _too_early(seen)
        return seen + (EARLY if at < fault_at else ""), at - fault_at

    def next_send(self) -> str:
        """What one more send() gives: ``ok``, ``blocked`` or the errno's name."""
        try:
            if not self._line.writing:
                self._line.ping(NEXT)
            return OK if self._line.flush() else BLOCKED
        except Ended as end:
            self.ended = True
            return end.why

    def over(self) -> None:
        """Wait until the fault is over as far as it ever is."""
        if self._calls:
            self._calls.take(self._pipe)
        order, _ = control.receive_order(self._pipe)
        if isinstance(order, control.Go):
            self._endpoint = order.endpoint or self._endpoint
            if not order.agent:
                self._patience, _ = ANSWER_TAKES
            if order.taken and self._has_one_client:
                self._line.overlook()
                self._activity = Idle(self._line, 0)

    def then(self) -> str:
        """What became of the connection: ``served`` again, ``silent``, ``gone``, or how it ends only now."""
        if self.ended:
            return GONE
        end, moved = time.monotonic() + self._patience, self._line.moved
        self._activity.finish()
        said = round_trip(self._line, min(self._patience, ANSWER_TAKES[0]))
        if said == SILENT:  # a slow machine is given time, but for one thing: see _others_are_served
            stuck = self._line.moved == moved and self._others_are_served()
            said = answer(self._line, self._between if stuck else end - time.monotonic())
        self.ended = said != SERVED
        if said == SERVED:
            self._activity.whole()
        return said

    def _others_are_served(self) -> bool:
        """Whether new connections are, one after the other.

        Where not a byte moves on the old one meanwhile, that says more than time does: the machine is not too
        slow, nor its agent too busy.
        """
        return not self._has_one_client and all(self.reconnect() == SERVED for _ in range(ROUNDS))

    def reconnect(self) -> str:
        """What a new connection gets, as `reconnected` says it; opened by the same side, or where this client
        listens, by the guest."""
        return reconnected(self._endpoint, self._initiated, self._patience, self._listener)

    def _ended(self) -> tuple[str, float]:
        """Be at it until the connection ends, or `within` seconds after the fault."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.register(self._line.sock, self._activity.events)
        until: float | None = None
        while until is None or time.monotonic() < until:
            ready = dict(poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000))
            if self._line.sock.fileno() in ready:
                try:
                    self._activity.move()
                except Ended as end:
                    self.ended = True
                    return end.why, end.at
            if self._pipe.fileno() in ready:
                until = self._wait() + self._step.within
                poll.unregister(self._pipe)
        return NOTHING, until

    def _refused(self) -> tuple[str, float]:
        """Connect again and again, until that fails after the fault, or `within` seconds after."""
        failed: list[tuple[str, float]] = []
        while True:
            try:
                with connect(self._endpoint) as sock:
                    told = self._answered(sock)
            except OSError as error:
                failed.append((errno_name(error), time.monotonic()))
                told = self._told(self._between)
            if told:
                fault_at = self._wait()
                late = next(((why, at) for why, at in failed if at >= self._began), None)
                if late or time.monotonic() >= fault_at + self._step.within:
                    return late or (NOTHING, fault_at + self._step.within)

    def _have_called(self, label: str) -> None:
        self._calls = Calls(self._stack.enter_context(listening(self._endpoint)))
        if not self._calls.ordered(self._line, label, time.monotonic() + 10 * self._patience):
            raise _too_early("uncalled")

    def _still_called(self, calls: Calls) -> tuple[str, float]:
        """Take calls until `within` seconds after the fault; whether any came in the second half of them."""
        calls.take(self._pipe)
        within = self._step.within
        end = self._wait() + within
        calls.take(end=end)
        return (CALLED if calls.last > end - within / 2 else NOTHING), end

    def _called(self) -> tuple[str, float]:
        """Listen until somebody connects, or something is wrong, or `within` seconds after the fault."""
        end = self._wait() + self._step.within
        poll = select.poll()
        assert self._listener is not None
        poll.register(self._listener, select.POLLIN)
        events = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        return (CALLED, time.monotonic()) if events else (NOTHING, end)

    def _answered(self, sock: socket.socket) -> bool:
        """Wait for an answer, so that connections do not gather in the backlog; whether the fault was done.

        After the fault only a moment: it may never come, and this is about connect().
        """
        with contextlib.suppress(OSError):
            sock.send(ping(self._line.work + NEXT), FLAGS)
        if self._fault_at is not None:
            return self._told(self._between)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(self._pipe, select.POLLIN)
        return self._pipe.fileno() in dict(poll.poll())

    def _told(self, seconds: float) -> bool:
        """Whether the fault was done; waits so long for the word."""
        poll = select.poll()
        if self._fault_at is None:
            poll.register(self._pipe, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) or self._fault_at is not None

    def _wait(self) -> float:
        """When the fault was done; waits for the coordinator's word if that has not come."""
        if self._fault_at is None:
            order, _ = control.receive_order(self._pipe)
            told = order if isinstance(order, control.Go) else control.Go()
            self._began, self._fault_at = told.began, told.at
        return self._fault_at


def _too_early(why: str) -> ConnectionLost:
    return ConnectionLost(why, f"meet-fault: the connection ended before the fault ({why})")
