"""A client of the agent: does its workload on its connection and tells the coordinator what it sees.

STARTED, then CONNECTING and CONNECTED or REFUSED. For each step ASKED, PROGRESS now and again (its detail:
bytes sent and received in the step; also at the first byte that comes of all, so that who is being served is
known; of a flood often, however little it moves), ANSWERED with what was compared (of a `ping`, what each
trip took);
`leave` has none of these, and `ask-and-leave` only ASKED. Then HOLDING, with `pings` telling whether round
trips can be made meanwhile, or LEFT. WRONG and STALE end the workload and are followed by LEFT; LOST and
REFUSED are the last. A `flood` is ANSWERED, and its client holds, when the agent took part; PROGRESS goes on,
and has `through` when all bytes are.

Who reads another's reply on a shared connection is WRONG, not STALE: there it is the garbling itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from harness.agent.errnos import errno_name
from harness.guest.client import AgentClient, AgentError, ConnectionLost, Garbled, StaleReply, WrongData
from harness.link.connect import KERNEL_TIMEOUT, connect
from harness.model.deadline import Deadline, until
from harness.model.link import Link
from harness.model.plan import Initiated
from harness.model.steps import AskAndLeave, Flood, Leave, MeetFault, Ping, Step, StopReading
from harness.model.trace import Event, What
from harness.run import control
from harness.run.control import Begin, Role
from harness.run.dialled import dialled
from harness.run.flooding import Flooding
from harness.run.meet import Encounter
from harness.run.raw import Detail, Raw, Wrong
from harness.run.steps import Steps, Value, seed_for
from harness.run.tap import Tap

PROGRESS_EVERY = 256 * 1024
"""Bytes moved from one PROGRESS event to the next."""

FLOOD_PROGRESS_EVERY = 0.02
"""Seconds of a plain machine from one PROGRESS event to the next of a flood that moves: one in small pieces
may take seconds for as many bytes, and whether it moved while others talked is to be known."""

SHARED_PIECE = 512
"""Bytes a write on a connection that several processes write to."""

FRAMES = {
    Link.ISA_SERIAL: (1024, 1024),
    Link.VIRTCONSOLE: (4096, 4096),
    Link.HYBRID_VSOCK: (15 * 1024, 1 << 20),
}
"""Bytes of a frame, and bytes not yet answered. On ttys n_tty keeps 4095 bytes of input (N_TTY_BUF_SIZE).

vhost-device-vsock 0.3.0 loses what the guest writes in one piece of more than 32 KiB (test_packets.py in
scenarios/): with a frame's own bytes, these stay below 16 KiB.
"""

_DEFAULT_FRAMES = (64 * 1024, 1 << 20)

_IN_PIECES = 4096
"""Bytes of a frame at most where it is written in small pieces: more writes take a slow host seconds, and
who is not answered for seconds, while others are, would be taken for one that waits."""

T = TypeVar("T")


class _Gone(Exception):
    """There is nothing more to do: the client's end was told."""


class Client:
    """One client's life: connect, do each step, hold or leave."""

    def __init__(self, pipe: socket.socket, begin: Begin) -> None:
        self._pipe = pipe
        self._begin = begin
        self._step = -1
        self._op = ""
        self._tap: Tap | None = None
        self._told = 0  # bytes moved when PROGRESS was last told
        self._due = 0.0  # when a flood is to tell of more
        self._came = False  # PROGRESS has told of a byte from the agent
        self._start = (0, 0)  # bytes sent and received when the step began
        self._cut = False  # a fault took the connection

    def run(self) -> None:
        """All of it."""
        begin = self._begin
        self._tell(What.STARTED, pid=os.getpid())
        try:
            self._tap = Tap(self._connection(), self._moved, self._piece)
            chunk, window = FRAMES.get(begin.endpoint.link, _DEFAULT_FRAMES)
            if any(isinstance(step, Flood) and step.piece for step in begin.steps):
                chunk = min(chunk, _IN_PIECES)
            with AgentClient(self._tap, chunk=chunk, window=window) as agent:
                raw = Raw(begin.endpoint, begin.initiated, begin.slowness)
                self._work(Steps(agent, raw, begin))
        except _Gone:
            return

    @property
    def _piece(self) -> int | None:
        return None if self._begin.role is Role.ALONE else SHARED_PIECE

    def _connection(self) -> socket.socket:
        if self._begin.role is Role.SHARER:
            sock = self._shared()
            self._tell(What.CONNECTED, shared=True)
        else:
            self._tell(What.CONNECTING)
            try:
                sock = self._opened()
            except OSError as error:
                self._tell(What.REFUSED, errno=errno_name(error), error=str(error.strerror))
                raise _Gone from error
            if self._begin.role is Role.OPENER:
                control.send(self._pipe, control.Connection(), sock.fileno())
            self._tell(What.CONNECTED, initiated=self._begin.initiated.value)
        if self._begin.role is not Role.ALONE:
            self._wait_for_go()
        return sock

    def _opened(self) -> socket.socket:
        begin = self._begin
        if begin.initiated is Initiated.GUEST:
            return self._guarded(lambda: dialled(begin.endpoint, begin.slowness))
        # on an emulated host the kernel's 2 s pass while other clients have the only CPU
        return connect(begin.endpoint, vsock_timeout=KERNEL_TIMEOUT * begin.slowness)

    def _shared(self) -> socket.socket:
        order, fd = control.receive_order(self._pipe)
        if not isinstance(order, control.Connection):
            raise _Gone
        return socket.socket(fileno=fd)

    def _wait_for_go(self) -> None:
        order, _ = control.receive_order(self._pipe)
        if not isinstance(order, control.Go):
            raise _Gone

    def _work(self, steps: Steps) -> None:
        last: Step | None = None
        for index, step in enumerate(self._begin.steps):
            self._step, last = index, step
            self._do(steps, step)
        self._step, self._op = -1, ""
        if self._begin.leave or isinstance(last, Leave | AskAndLeave):
            self._leave()
        if not isinstance(last, Flood):
            pings = self._begin.role is Role.ALONE and not isinstance(last, StopReading) and not self._cut
            self._tell(What.HOLDING, pings=pings)
        self._hold(steps)

    def _hold(self, steps: Steps) -> None:
        while True:
            order, _ = control.receive_order(self._pipe)
            if not isinstance(order, control.Ping):
                self._leave()
            self._op = "hold"
            self._guarded(steps.ping)
            self._tell(What.PINGED)
            self._op = ""

    def _leave(self) -> NoReturn:
        # told before it is done: the next client's answer may come while this process waits for the CPU
        self._tell(What.LEFT)
        if self._tap is not None:
            self._tap.close()
        raise _Gone

    def _do(self, steps: Steps, step: Step) -> None:
        self._op = step.op
        if isinstance(step, Leave):
            return
        assert self._tap is not None
        self._start = (self._tap.sent, self._tap.received)
        self._told = 0
        self._tell(What.ASKED)
        if isinstance(step, Flood):
            self._flood(steps, step)
            return
        if isinstance(step, MeetFault):
            detail = self._guarded(lambda: self._meet(step))
        else:
            detail = self._guarded(lambda: steps.do(self._step, step, self._fact, self._wait_for_go))
        if isinstance(step, AskAndLeave):
            self._until_read()
        else:
            self._say(What.ANSWERED, detail, steps.trips if isinstance(step, Ping) else ())

    def _flood(self, steps: Steps, step: Flood) -> None:
        """Hold as soon as the agent took part, go on until all is through, or until told to leave."""
        assert self._tap is not None

        def begin() -> None:
            self._tell(What.ANSWERED, asked=step.bytes)
            if not self._begin.leave:
                self._tell(What.HOLDING, pings=False)

        self._due = time.monotonic() + FLOOD_PROGRESS_EVERY * self._begin.slowness
        self._tap.write_by(step.piece)
        flooding = Flooding(step, self._tap, self._pipe, begin, self._leave)
        self._guarded(lambda: steps.flood(self._step, step, flooding.moved))
        flooding.through()
        self._progress(through=True)

    def _meet(self, step: MeetFault) -> Detail:
        assert self._tap is not None
        seed = seed_for(self._begin.scenario, self._begin.client, self._step)
        met = Encounter(step, self._tap, self._begin, self._pipe, seed=seed)
        try:
            return {**met.through(self._begin.client, self._tell)}
        finally:
            self._cut = not met.alive

    def _until_read(self) -> None:
        """Wait until what was asked has been read: QEMU drops what it has not read when a client leaves.

        A slow port takes it byte by byte, when the guest has room (tcp_chr_read and tcp_chr_hup in QEMU's
        chardev/char-socket.c); a request that never reached the guest shows nothing. If it is never read,
        the coordinator ends this client, as any that waits.
        """
        assert self._tap is not None
        tap = self._tap
        until(lambda: tap.unread() == 0, Deadline(None), "QEMU's reading of the request")

    def _fact(self, detail: Detail) -> None:
        self._tell(What.FACT, **detail)

    def _guarded(self, do: Callable[[], T]) -> T:
        """`do()`; whatever it raises of the system under test is told, and is this client's end."""
        try:
            return do()
        except StaleReply as error:
            if self._begin.role is Role.ALONE:
                self._tell(What.STALE, request=error.request, seen=error.summary)
            else:
                self._tell(What.WRONG, expected="its own reply", seen=error.summary)
        except ConnectionLost as error:
            self._tell(What.LOST, errno=error.why, error=str(error))
            raise _Gone from error
        except Wrong as error:
            self._tell(What.WRONG, expected=error.expected, seen=error.seen)
        except WrongData as error:
            self._tell(What.WRONG, expected=error.expected, seen=error.seen, at=error.at)
        except (Garbled, AgentError) as error:
            self._tell(What.WRONG, expected="an answer", seen=error.summary)
        return self._leave()

    def _moved(self) -> None:
        assert self._tap is not None
        moved = self._tap.sent + self._tap.received - sum(self._start)
        first = self._tap.received > 0 and not self._came
        often = self._op == Flood.op and moved > self._told and time.monotonic() >= self._due
        if self._step >= 0 and (first or often or moved - self._told >= PROGRESS_EVERY):
            self._told, self._came = moved, self._came or first
            self._due = time.monotonic() + FLOOD_PROGRESS_EVERY * self._begin.slowness
            self._progress()

    def _progress(self, **detail: Value) -> None:
        """Tell how many bytes of the step have moved."""
        assert self._tap is not None
        sent, received = self._tap.sent - self._start[0], self._tap.received - self._start[1]
        self._tell(What.PROGRESS, sent=sent, received=received, **detail)

    def _tell(self, what: What, **detail: Value) -> None:
        self._say(what, detail)

    def _say(self, what: What, detail: Detail, trips: tuple[int, ...] = ()) -> None:
        moved = 0
        if self._tap is not None and self._step >= 0:
            moved = self._tap.sent + self._tap.received - sum(self._start)
        event = Event(
            at=time.monotonic(),
            client=self._begin.client,
            what=what,
            step=self._step,
            op=self._op,
            bytes=moved,
            trips=trips,
            detail=detail,
        )
        control.tell(self._pipe, event)  # or ends, as the thread does that watches the coordinator
