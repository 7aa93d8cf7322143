"""Byte channels: a connection, a tty, a virtio port. Each is read by one thread and written by any."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import threading
from collections.abc import Callable
from typing import NamedTuple

from .bulk import LITTLE, LowMark, widen
from .errnos import errno_name
from .wire import Bulk, Frame, parts

KEPT_MAX = 1 << 20
"""The most bytes of late replies that a channel keeps."""


class Gone(Exception):
    """The channel is over: a write failed for good."""


class Channel:
    """Base of the channels; `name` is what HELLO reports: ``vsock`` or a device's path.

    `device` is the guest's device that it comes by, None where there is none. A `lasting` channel is such a
    device and outlives its clients; a connection ends with its only one.
    """

    lasting = True

    def __init__(self, name: str, read_fd: int, write_fd: int, device: str | None = None) -> None:
        self.name = name
        self.device = device
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._writing = threading.Lock()
        self._kept: list[list[bytes | memoryview]] = []
        self.why = "eof"
        """How it ended, once it has: ``eof`` or the errno's name of the first read or write that failed."""

    @property
    def fd(self) -> int:
        """What to poll for the client's end (POLLHUP, POLLRDHUP)."""
        return self._read_fd

    def read(self, room: memoryview, lacks: int = 0) -> int:
        """Wait for bytes, put them into `room`, return how many; 0 when the channel is over for good.

        :param lacks: so many more are sure to come soon, and nobody needs the first ones before.
        """
        try:
            return os.readv(self._read_fd, [room])
        except OSError as error:
            return self._failed(error)

    def send(self, frame: Frame | Bulk) -> None:
        """Write the kept replies, then `frame`, whole, after what others write. Blocks while nobody reads.

        :raise Gone: if the channel is over.
        """
        data = parts(frame)
        with self._writing:
            kept, self._kept = self._kept, []
            for pieces in (*kept, data):
                self._write(pieces)

    def keep(self, frame: Frame) -> bool:
        """Keep `frame` for the next `send`; False if more than `KEPT_MAX` bytes would be kept."""
        data = parts(frame)
        with self._writing:
            if sum(len(piece) for pieces in (*self._kept, data) for piece in pieces) > KEPT_MAX:
                return False
            self._kept.append(data)
        return True

    def hung_up(self) -> bool:
        """Whether the other end is away now. Always False on a tty, which cannot know."""
        return False

    def watch(self, hangup: Callable[[bool], None]) -> None:
        """Call ``hangup(certain)`` when a client leaves a channel that goes on.

        Certain comes from `read`, between two clients' bytes; uncertain from another thread, perhaps late.
        """

    def widen(self) -> None:
        """Much is coming: take more at a time, where that can be had."""

    def close(self) -> None:
        """Let go of the descriptors. Only after `read` has returned 0."""
        os.close(self._read_fd)
        if self._write_fd != self._read_fd:
            os.close(self._write_fd)

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        left = list(pieces)
        try:
            while left:
                count = os.writev(self._write_fd, left)
                while left and count >= len(left[0]):
                    count -= len(left.pop(0))
                if count:
                    left[0] = memoryview(left[0])[count:]
        except OSError as error:
            self._failed(error)
            raise Gone from error

    def _failed(self, error: OSError) -> int:
        """Keep why; 0, as of a channel that is over."""
        if self.why == "eof":
            self.why = errno_name(error)
        return 0


class ConnectionChannel(Channel):
    """One accepted connection: of vsock in the guest, or one of many streams on a `device`.

    `left` is a pipe whose other end is closed when a stream's client leaves, which its socket pair can tell
    only once all is read.
    """

    lasting = False

    def __init__(
        self, name: str, connection: socket.socket, device: str | None = None, left: int | None = None
    ) -> None:
        self._connection = connection
        self._left = left
        self._low_mark: LowMark | None = None
        super().__init__(name, connection.fileno(), connection.fileno(), device)

    @property
    def fd(self) -> int:
        """See `Channel.fd`."""
        return self._read_fd if self._left is None else self._left

    def widen(self) -> None:
        """See `Channel.widen`."""
        with contextlib.suppress(OSError):
            if widen(self._connection):
                self._low_mark = self._low_mark or LowMark(self._connection)

    def read(self, room: memoryview, lacks: int = 0) -> int:
        """See `Channel.read`."""
        if self._low_mark is None:
            return super().read(room)
        try:
            poll = select.poll()
            poll.register(self._read_fd, select.POLLIN)
            while self._low_mark.set(lacks):
                poll.poll(LITTLE * 1000)
                with contextlib.suppress(BlockingIOError):
                    return self._connection.recv_into(room, 0, socket.MSG_DONTWAIT)
        except OSError as error:
            return self._failed(error)
        return super().read(room)

    def close(self) -> None:
        """Close the connection, and end every write to it."""
        with contextlib.suppress(OSError):  # ENOTCONN: the other end has gone
            self._connection.shutdown(socket.SHUT_RDWR)  # a write that nobody reads fails now
        with self._writing:  # who waits for it must not write to the next connection, which gets this number
            self._write_fd = -1
            self._connection.close()
        if self._left is not None:
            os.close(self._left)


class TtyChannel(Channel):
    """A terminal device in raw mode. Nobody says when a client leaves it."""

    def __init__(self, path: str, fd: int) -> None:
        make_raw(fd)
        super().__init__(path, fd, fd, path)


class PortChannel(Channel):
    """A virtio port (drivers/char/virtio_console.c, port_fops_read, port_fops_poll).

    While no client is on the host's side, read() returns 0 bytes at once and poll() says POLLHUP each time,
    so neither waits. Edge-triggered epoll does: the kernel wakes the port's queue at each change of the
    host's state, and a change between read() and the wait is kept. write() blocks until a client comes, which
    then gets the bytes; so a thread of its own, which never writes, watches for the client leaving.

    Not seen is a client that leaves while another is waiting: both changes may be over when the guest runs.
    """

    def __init__(self, path: str, read_fd: int, write_fd: int) -> None:
        super().__init__(path, read_fd, write_fd, path)
        self._change = select.epoll()
        self._change.register(read_fd, select.EPOLLIN | select.EPOLLHUP | select.EPOLLET)
        self._hangup: Callable[[bool], None] = lambda certain: None
        self._over, self._open = os.pipe()

    def read(self, room: memoryview, lacks: int = 0) -> int:
        """As `Channel.read`, through any number of clients; 0 when the device is gone."""
        while True:
            try:
                count = os.readv(self._read_fd, [room])
            except OSError as error:
                return self._failed(error)
            if count:
                return count
            self._hangup(True)
            self._change.poll()

    def hung_up(self) -> bool:
        """Whether no client is there now."""
        poll = select.poll()
        poll.register(self._read_fd, 0)
        return bool(poll.poll(0))

    def watch(self, hangup: Callable[[bool], None]) -> None:
        """See `Channel.watch`."""
        self._hangup = hangup
        threading.Thread(target=self._watch, name=f"{self.name} watch", daemon=True).start()

    def close(self) -> None:
        """Let go of the descriptors and end the watching thread."""
        os.close(self._open)
        self._change.close()
        super().close()

    def _watch(self) -> None:
        with select.epoll() as changes:
            changes.register(self._read_fd, select.EPOLLHUP | select.EPOLLET)
            changes.register(self._over, select.EPOLLHUP)
            while not any(fd == self._over for fd, _ in changes.poll()):
                self._hangup(False)
        os.close(self._over)


class Line(NamedTuple):
    """What a multiplexing proxy is at the other end of, by two descriptors, or one twice.

    A `lasting` one, a device, outlives the proxies: EOF is one that leaves, and another may come. `name` is
    what HELLO reports to the streams' clients: ``unix`` or a device's path.
    """

    name: str
    read_fd: int
    write_fd: int
    lasting: bool

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in {self.read_fd, self.write_fd}:
            os.close(fd)


def open_serial(path: str) -> Channel:
    """Open the device of a serial link as the channel it is.

    :raise OSError: if that fails; EBUSY when another has the virtio port open, ENXIO on a console's port.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        return TtyChannel(path, fd) if os.isatty(fd) else PortChannel(path, fd, fd)
    except BaseException:
        os.close(fd)
        raise


def make_raw(fd: int) -> None:
    """No echo, no translation, no signals, 8 bits, the fastest speed of a PC's UART; unread input is kept.

    :raise OSError: if `fd` is no terminal, or one without hardware behind it.
    """
    try:
        settings = termios.tcgetattr(fd)
        settings[0] = settings[1] = settings[3] = 0
        settings[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings[4] = settings[5] = termios.B115200
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except termios.error as error:
        raise OSError(*error.args) from error
