"""Requests and replies over one socket, reading while writing so that neither end blocks the other."""

from __future__ import annotations

import contextlib
import random
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from harness.agent.bulk import LITTLE, LowMark
from harness.agent.decoder import Decoder
from harness.agent.errnos import errno_name
from harness.agent.wire import BadFrame, Bulk, Frame, Kind, parts
from harness.guest.answers import Done
from harness.guest.errors import (
    AgentError,
    ConnectionLost,
    Garbled,
    StaleReply,
    WrongData,
    agent_error,
    compare,
    kind_name,
)
from harness.model.deadline import Deadline

A = TypeVar("A")

_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Conversation:
    """One client's end of a channel to the agent.

    Request ids start at a random 31-bit number, so that a reply to another client's request is known as such.
    What could not be written before a deadline passed is written first by the next exchange: a frame is never
    torn while the connection lives. Not for several threads.

    `low_mark` is for a socket that was widened: much is read at a time then.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._first = self._next = random.SystemRandom().randrange(1, 1 << 31)
        self._decoder = Decoder(take=self._take)
        self._inbox: Iterator[Frame | BadFrame] = iter(())
        self._outbox: list[bytes | memoryview] = []
        self._poll = select.poll()
        self.low_mark: LowMark | None = None
        self._handlers: dict[int, Callable[[Frame], None]] = {}
        self._takers: dict[int, Callable[[memoryview], None]] = {}
        self.notices: list[AgentError] = []

    def open(self, handler: Callable[[Frame], None], bulk: Callable[[memoryview], None] | None = None) -> int:
        """A new request id, whose frames `handler` gets; it may raise, and the exchange then raises that.

        `bulk` gets the pieces of its BULK, in memory that is used again afterwards.
        """
        request = self._next
        self._next += 1
        self._handlers[request] = handler
        if bulk:
            self._takers[request] = bulk
        return request

    def close(self, request: int) -> None:
        """Drop whatever still comes for `request`."""
        self._handlers.pop(request, None)
        self._takers.pop(request, None)

    def exchange(
        self,
        frames: Iterable[Frame | Bulk],
        finished: Callable[[], bool],
        what: str,
        deadline: Deadline | None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Write all `frames` while handing out what comes, and return when that is done and `finished()`.

        The next of `frames` is taken whenever the last one is written and `may_write()`.

        :raise DeadlinePassed: naming `what`.
        :raise StaleReply: a frame came for a request that this client never made; later ones are kept.
        :raise Garbled: what came is no frame, or an agent does not send it.
        :raise ConnectionLost: the connection ended or failed.
        """
        source = iter(frames)
        more = True
        while True:
            for come in self._inbox:
                self._hand_out(come)
            if more and not self._outbox and may_write():
                frame = next(source, None)
                more = frame is not None
                self._outbox = list(parts(frame)) if frame else []
            if not more and not self._outbox and finished():
                return
            self._move(what, deadline)

    def call(
        self,
        frames: Callable[[int], Iterable[Frame | Bulk]],
        handler: Callable[[Frame], None],
        finished: Callable[[], bool],
        what: str,
        deadline: Deadline | None,
        bulk: Callable[[memoryview], None] | None = None,
    ) -> None:
        """One request from `open` to `close`, around an `exchange` of ``frames(request)``."""
        request = self.open(handler, bulk)
        try:
            self.exchange(frames(request), finished, what, deadline)
        finally:
            self.close(request)

    def _move(self, what: str, deadline: Deadline | None) -> None:
        """Wait until something can be read or written, and do it."""
        self._poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        remaining = deadline.remaining() if deadline else None
        patient = self.low_mark and self.low_mark.set(0 if self._outbox else self._decoder.lacks)
        if patient:
            remaining = LITTLE if remaining is None else min(LITTLE, remaining)
        ready = self._poll.poll(None if remaining is None else remaining * 1000)
        if not ready:
            if deadline:
                deadline.check(what)
            if patient:
                self._read(what)
            return
        _, events = ready[0]
        if events & ~select.POLLOUT:
            self._read(what)
        if events & select.POLLOUT and self._outbox:
            self._write(what)

    def _read(self, what: str) -> None:
        try:
            count = self._sock.recv_into(self._decoder.room(), 0, _FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(errno_name(error), what) from error
        if not count:
            raise self._lost("eof", what)
        self._inbox = self._decoder.filled(count)

    def _write(self, what: str) -> None:
        try:
            count = self._sock.sendmsg(self._outbox, (), _FLAGS)
            self._written(count)
        except BlockingIOError:
            return
        except OSError as error:
            self._outbox = []
            self._read_last_words()
            raise self._lost(errno_name(error), what) from error

    def _written(self, count: int) -> None:
        while self._outbox and count >= len(self._outbox[0]):
            count -= len(self._outbox.pop(0))
        if count:
            self._outbox[0] = memoryview(self._outbox[0])[count:]

    def _read_last_words(self) -> None:
        """What the agent said before it closed is here already: take its complaints from it."""
        self._takers.clear()
        self._heed(self._inbox)
        with contextlib.suppress(OSError):
            while count := self._sock.recv_into(self._decoder.room(), 0, _FLAGS):
                self._heed(self._decoder.filled(count))

    def _heed(self, come: Iterable[Frame | BadFrame]) -> None:
        """Keep what the agent complained of without naming a request."""
        for frame in come:
            if isinstance(frame, Frame) and frame.kind == Kind.ERROR and frame.request == 0:
                self.notices.append(agent_error(frame))

    def _lost(self, why: str, what: str) -> ConnectionLost:
        inside = " in the middle of a frame" if self._decoder.inside else ""
        said = "; ".join(notice.summary for notice in self.notices)
        return ConnectionLost(why, f"{what}: the connection ended{inside} ({why})", detail=said)

    def _take(self, kind: int, request: int, payload: memoryview) -> bool:
        """A piece of a BULK, where it lies; what comes for a request that is closed is dropped."""
        if kind != Kind.BULK or not self._first <= request < self._next:
            return False
        if taker := self._takers.get(request):
            taker(payload)
        return True

    def _hand_out(self, frame: Frame | BadFrame) -> None:
        if isinstance(frame, BadFrame):
            raise Garbled(frame.reason, f"read {frame.skipped} bytes that are no frame: {frame.reason}")
        if frame.request == 0 and frame.kind == Kind.ERROR:
            # Of the channel, not of a request; on a serial port perhaps about what another client left there.
            self._heed([frame])
            return
        handler = self._handlers.get(frame.request)
        if handler:
            handler(frame)
        elif not self._first <= frame.request < self._next:
            raise StaleReply(frame)


def payload(frame: Frame, kind: Kind) -> bytes:
    """The payload of an answer that must be of `kind`.

    :raise AgentError: if it is an ERROR instead.
    :raise Garbled: if it is anything else.
    """
    if frame.kind == Kind.ERROR:
        raise agent_error(frame)
    if frame.kind != kind:
        raise Garbled("kind", f"want a {kind.name}, read a {kind_name(frame.kind)}")
    return frame.payload


def was_sunk(what: str, answer: bytes, total: int) -> None:
    """Nothing if a SINK's answer says that `total` bytes came, and as they were sent.

    :raise WrongData: it says something else.
    :raise Garbled: it is no such answer.
    """
    done = decoded(answer, Done)
    if wrong := done.wrong:
        raise WrongData(what, wrong.at, bytes.fromhex(wrong.expected), bytes.fromhex(wrong.seen))
    compare(f"{what}: count", 0, str(total).encode(), str(done.bytes).encode())


def encoded(wish: Mapping[str, object]) -> bytes:
    """A request's JSON."""
    return msgspec.json.encode(wish)


def decoded(answer: bytes, kind: type[A]) -> A:
    """An answer's JSON as `kind`.

    :raise Garbled: if it is none.
    """
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise Garbled("answer", f"want a {kind.__name__}, read {answer[:200]!r}: {error}") from error
