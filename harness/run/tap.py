"""A socket that counts what moves through it, and can write in small pieces."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


BURST = 1024
"""So many small writes are made at most before anybody looks at what else there is."""


class Tap(socket.socket):
    """Takes over `sock`'s descriptor. Counts `sent` and `received` bytes, and calls `moved` after each move.

    :param piece: the most bytes that one write takes, with a yield of the CPU after it, so that processes
        that write to one connection at once do interleave; None for no limit.
    """

    def __init__(self, sock: socket.socket, moved: Callable[[], None], piece: int | None = None) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.sent = 0
        self.received = 0
        self._moved = moved
        self._piece = piece
        self._burst: int | None = None

    def write_by(self, size: int | None) -> None:
        """From now on each write is one of at most `size` bytes and the next ones at once; None: of all."""
        self._burst = size

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0, /) -> int:
        """As `socket.recv_into`."""
        count = super().recv_into(buffer, nbytes, flags)
        self.received += count
        self._moved()
        return count

    def sendmsg(  # type: ignore[override]
        self, buffers: Iterable[Buffer], ancdata: Iterable[tuple[int, int, Buffer]] = (), flags: int = 0, /
    ) -> int:
        """As `socket.sendmsg`, which may send less than all."""
        if self._burst is not None:
            sent = self._small_writes(memoryview(next(iter(buffers))), self._burst, flags)
        elif self._piece is None:
            sent = super().sendmsg(buffers, ancdata, flags)
        else:
            sent = super().send(memoryview(next(iter(buffers)))[: self._piece], flags)
        self.sent += sent
        self._moved()
        if self._piece is not None:
            os.sched_yield()
        return sent

    def _small_writes(self, data: memoryview, size: int, flags: int) -> int:
        """Bytes sent until there is no room for more.

        :raise OSError: the first one failed.
        """
        sent = 0
        send = super().send
        try:
            for _ in range(BURST):
                sent += send(data[sent : sent + size], flags)
                if sent == len(data):
                    break
        except OSError:
            if not sent:
                raise
        return sent

    def unread(self) -> int:
        """Bytes sent that the other end of a Unix socket has not read yet; 0 for other families.

        From the kernel (TIOCOUTQ; unix_outq_len in net/unix/af_unix.c).
        """
        if self.family != socket.AF_UNIX:
            return 0
        (count,) = struct.unpack("i", fcntl.ioctl(self, termios.TIOCOUTQ, bytes(4)))
        return int(count)
