"""A connection used directly: frames out and in, and each errno is that of the one call that gave it."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from harness.agent.decoder import Decoder
from harness.agent.errnos import errno_name
from harness.agent.wire import BadFrame, Frame, Kind, encode
from harness.guest.errors import Garbled, StaleReply, agent_error, compare, kind_name

FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
"""Of every call on a socket: none waits, none kills."""


_IDS = 4
"""Request ids of one line: see `harness.run.doing.WORK` and `harness.run.fresh`."""


PINGED = b"meet\r\n\0\xff"
"""What a `ping` has, and its answer."""


def ping(request: int) -> bytes:
    """The smallest request that is answered."""
    return encode(Frame(Kind.ECHO, request, PINGED))


def _let_be(frame: Frame) -> None:
    """What is done with what comes, where all is overlooked."""


class Ended(Exception):
    """The connection ended: `why` is an errno's name or ``eof``, `at` when (CLOCK_MONOTONIC)."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.at = time.monotonic()


class Line:
    """A connection: frames that are written whole, however long that takes, and those that came."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.moved = 0
        """Bytes that went or came."""
        self.work = random.SystemRandom().randrange(1 << 29, 1 << 30) * _IDS
        """The first of the request ids used on this line: no other's, so that another's answer is known as
        such. An `AgentClient` that had it before used lower ones."""
        self.other: Callable[[Frame], None] = self.unasked
        """What `until` does with a frame that it does not wait for."""
        self._pinged: list[int] = []  # not answered yet
        self._decoder = Decoder()
        self._left = memoryview(b"")

    @property
    def writing(self) -> bool:
        """Whether something of what was given to `write` is still here."""
        return bool(self._left)

    def write(self, data: bytes) -> None:
        """Have `data` written by `flush`, after what is there."""
        self._left = memoryview(bytes(self._left) + data if self._left else data)

    def flush(self) -> bool:
        """Write what fits now; whether anything did.

        :raise Ended: send() failed.
        """
        try:
            count = self.sock.sendmsg([self._left], (), FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Ended(errno_name(error)) from error
        self._left = self._left[count:]
        self.moved += count
        return True

    def frames(self) -> Iterator[Frame]:
        """What one recv() brings.

        :raise Ended: recv() failed, or was the end.
        :raise Garbled: what came is no frame.
        """
        try:
            count = self.sock.recv_into(self._decoder.room(), 0, FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            raise Ended(errno_name(error)) from error
        if not count:
            raise Ended("eof")
        self.moved += count
        for frame in self._decoder.filled(count):
            if isinstance(frame, BadFrame):
                if self.other is _let_be:
                    continue
                raise Garbled(frame.reason, f"read {frame.skipped} bytes that are no frame: {frame.reason}")
            yield frame

    def ping(self, request: int) -> None:
        """Have one written, `request` being counted from `work`."""
        self.write(ping(self.work + request))
        self._pinged.append(self.work + request)

    def answered(self, end: float) -> bool:
        """Write what is left and read until all pings are answered; False if `end` (monotonic) comes first.

        :raise Ended: the connection did.
        :raise Garbled: one was not, and a later one was.
        :raise SystemFailure: see `until`.
        """
        return not self._pinged or self.until(self._pinged[-1], Kind.DATA, end)

    def until(self, request: int, kind: Kind, end: float) -> bool:
        """Write what is left and read until the answer to `request`; False if `end` (monotonic) comes first.

        :raise Ended: the connection did.
        :raise SystemFailure: of another frame that came until then, from `other`; or of a ping's answer.
        """
        poll = select.poll()
        found = False
        while (remaining := end - time.monotonic()) > 0:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.writing else 0))
            for _, events in poll.poll(remaining * 1000):
                if events & select.POLLOUT and self.writing:
                    self.flush()
                if events & ~select.POLLOUT:
                    for frame in self.frames():
                        asked = (frame.request, frame.kind) == (request, kind) and not found
                        found = found or asked
                        if frame.kind == Kind.DATA and frame.request in self._pinged:
                            self._pong(frame)
                        elif not asked:
                            self.other(frame)
            if found:
                return True
        return False

    def overlook(self) -> None:
        """From now on let any frame be, torn ones too, and ask for no ping's answer but those to come.

        On a serial port one may read another client's answers, and what the agent says of what that one left
        (`serial-stale-reply` is about that); and who opens a port next answers in the place of who was there,
        behind the half of a frame that was on its way when that one's port went.
        """
        self._pinged.clear()
        self.other = _let_be

    def _pong(self, frame: Frame) -> None:
        first, *self._pinged = self._pinged
        if frame.request != first:
            raise Garbled("answer", "what was sent later was answered, what was sent before was not")
        compare("meet-fault", 0, PINGED, frame.payload)

    def unasked(self, frame: Frame) -> NoReturn:
        """A frame for which nothing on this line has asked.

        :raise AgentError: it says that a request was refused, or that what came was no frame.
        :raise Garbled: it is the answer to a request of this line, but not the one that is to come; or it is
            of a container.
        :raise StaleReply: it is the answer to a request that was not made here.
        """
        if frame.kind == Kind.ERROR:
            raise agent_error(frame)
        container = frame.kind in (Kind.STDOUT, Kind.STDERR, Kind.EXIT)
        if container or self.work <= frame.request < self.work + _IDS:
            what = f"a {kind_name(frame.kind)} of {len(frame.payload)} bytes"
            raise Garbled("kind", f"read {what}, where none was to come")
        raise StaleReply(frame)
