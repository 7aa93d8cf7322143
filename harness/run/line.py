"""A connection used directly: frames out and in, and each errno is that of the one call that gave it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

from harness.agent.decoder import Decoder
from harness.agent.errnos import errno_name
from harness.agent.wire import BadFrame, Frame, Kind
from harness.guest.errors import Garbled

FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
"""Of every call on a socket: none waits, none kills."""


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
                raise Garbled(frame.reason, f"read {frame.skipped} bytes that are no frame: {frame.reason}")
            yield frame

    def until(self, request: int, kind: Kind, end: float) -> bool:
        """Write what is left and read until the answer to `request`; False if `end` (monotonic) comes first.

        :raise Ended: the connection did.
        """
        poll = select.poll()
        while (remaining := end - time.monotonic()) > 0:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.writing else 0))
            for _, events in poll.poll(remaining * 1000):
                if events & select.POLLOUT and self.writing:
                    self.flush()
                if events & ~select.POLLOUT:
                    for frame in self.frames():
                        if (frame.request, frame.kind) == (request, kind):
                            return True
        return False
