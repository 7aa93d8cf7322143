"""One line that many clients share by yamux: each stream becomes a connection of its own to the agent."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

from . import yamux
from .channel import Line

_READ_SIZE = 65536
_WRITE_SIZE = 32768  # what a virtio port takes at a time (drivers/char/virtio_console.c, port_fops_write)
_ENOUGH = 64 * 1024
"""Bytes that wait for the line, beyond which no stream may add any: who is next is decided late."""

_TOO_MUCH = 1 << 20
"""Bytes that wait for the line, beyond which nothing is read: who does not read answers gets no more."""

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_GONE = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
_CAME = select.EPOLLIN | _GONE


class _End:
    """This side of a stream: of the socket pair whose other side a session has, and of the pipe `left`."""

    def __init__(self, stream: int, sock: socket.socket, left: int) -> None:
        self.stream = stream
        self.sock = sock
        self.left = left
        self.inbox = bytearray()  # no more than the stream's window
        self.writable = True
        self.gone = False  # the session has, perhaps with something still to be collected
        self.finished = False  # the client sends no more
        self.told = False  # and the session has been told so
        self.closed = False  # the session sends no more

    def tell_left(self) -> None:
        """The client has left."""
        if self.left >= 0:
            os.close(self.left)
            self.left = -1

    def close(self) -> None:
        """Let go of it; the session sees its connection end."""
        self.tell_left()
        self.sock.close()


class Mux:
    """Carries bytes between a line and sessions, in one thread that waits for nobody.

    A session that does not read, or a client that does not, holds up its own stream alone: what came for it
    waits here, a window at most; what it has to say waits in its socket pair.

    Edge-triggered, because a virtio port without a proxy polls as hung up for ever (`channel.PortChannel`).
    That is what ends a session: all streams of a proxy end with it, and the next one begins a new session.
    """

    def __init__(self, line: Line, start: Callable[[socket.socket, int], bool]) -> None:
        """`start` serves one connection in a thread of its own, or closes it and says False.

        It gets, and owns, the connection and the reading end of a pipe: its EOF is the client's leaving.
        """
        self._line = line
        self._start = start
        self._server = yamux.Server()
        self._deaf: bytes | None = None  # after the session broke off: the last that was read
        self._ends: dict[int, _End] = {}
        self._by_fd: dict[int, _End] = {}
        self._to_deliver: set[_End] = set()
        self._to_collect: dict[_End, None] = {}  # who may have something to send; the next one first
        self._readable = self._writable = True
        self._over = False
        self._poll = select.epoll()

    def run(self) -> None:
        """Until the line is over for good; then all streams are."""
        with self._poll:
            for fd in {self._line.read_fd, self._line.write_fd}:
                os.set_blocking(fd, False)
                self._poll.register(fd, _EDGES)
            try:
                while not self._over:
                    moved = [self._read_line(), self._deliver(), self._collect(), self._write_line()]
                    if not self._over:
                        self._wait(not any(moved))
            finally:
                self._drop_all()

    def _wait(self, for_ever: bool) -> None:
        for fd, events in self._poll.poll(None if for_ever else 0):
            end = self._by_fd.get(fd)
            if end is None:
                self._readable = self._readable or bool(events & _CAME)
                self._writable = self._writable or bool(events & (select.EPOLLOUT | select.EPOLLERR))
                continue
            end.gone = end.gone or bool(events & _GONE)
            if events & _CAME and not end.closed:
                self._to_collect.setdefault(end)
            if events & (select.EPOLLOUT | select.EPOLLHUP):
                end.writable = True
                self._to_deliver.add(end)

    def _read_line(self) -> bool:
        if not self._readable or len(self._server.output) >= _TOO_MUCH:
            return False
        try:
            data = os.read(self._line.read_fd, _READ_SIZE)
        except BlockingIOError:
            self._readable = False
            return False
        except OSError:
            data = b""
            self._over = True
        if not data:
            self._hang_up()
            return False
        while data:
            data = data if self._deaf is None else self._heard(data)
            rest = b""
            for event in self._server.feed(data):
                self._take(event)
                rest = event.rest if isinstance(event, yamux.Ended) else b""
            data = rest
        return True

    def _hang_up(self) -> None:
        self._readable = False
        self._over = self._over or not self._line.lasting
        self._drop_all()
        self._begin()

    def _begin(self) -> None:
        self._server = yamux.Server()
        self._deaf = None

    def _heard(self, data: bytes) -> bytes:
        """After a session that broke off: `data` from where another one begins, b"" before.

        Its proxy has been told, and leaves; but that may go unseen, if the next one waits.
        """
        data = (self._deaf or b"") + data
        at = yamux.beginning(data)
        if at < 0:
            self._deaf = data[-yamux.BEGINNING :]
            return b""
        self._begin()
        return data[at:]

    def _take(self, event: yamux.Event) -> None:
        if isinstance(event, yamux.Opened):
            self._open(event.stream)
            return
        if isinstance(event, yamux.Ended):
            self._drop_all()
            self._deaf = b""
            self._over = not self._line.lasting
            self._write_line()  # the Go Away
            return
        end = self._ends.get(event.stream)
        if end is None:
            return
        if isinstance(event, yamux.Data):
            end.inbox += event.data
            self._to_deliver.add(end)
        elif isinstance(event, yamux.Finished):
            end.finished = True
            end.tell_left()
            self._to_deliver.add(end)
            if end.closed:
                self._drop(end)
        else:
            self._drop(end)

    def _open(self, stream: int) -> None:
        end = self._connect(stream)
        if end is None:
            self._server.reset(stream)
            return
        self._ends[stream] = self._by_fd[end.sock.fileno()] = end
        self._poll.register(end.sock, _EDGES)
        self._server.accept(stream)

    def _connect(self, stream: int) -> _End | None:
        """A session for `stream`; None if there are no descriptors or threads for it."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            return None
        try:
            reader, writer = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            return None
        ours.setblocking(False)
        end = _End(stream, ours, writer)
        if self._start(theirs, reader):
            return end
        end.close()
        return None

    def _deliver(self) -> bool:
        """Hand to the sessions what came for them."""
        moved = False
        for end in self._to_deliver:
            while end.inbox and end.writable:
                try:
                    count = end.sock.send(end.inbox)
                except BlockingIOError:
                    count, end.writable = 0, False
                except OSError:  # the session has gone: nobody wants it
                    count = len(end.inbox)
                del end.inbox[:count]
                self._server.consumed(end.stream, count)
                moved = moved or count > 0
            if end.finished and not end.inbox and not end.told:
                end.told = True
                if not end.closed:
                    end.sock.shutdown(socket.SHUT_WR)
        self._to_deliver.clear()
        return moved

    def _collect(self) -> bool:
        """Take one piece of each session that has something to send, in turn, while the line has room."""
        moved = False
        for end in list(self._to_collect):
            if len(self._server.output) >= _ENOUGH:
                break
            moved = self._collect_one(end) or moved
        return moved

    def _collect_one(self, end: _End) -> bool:
        room = self._server.room(end.stream)
        if not room and not end.gone and not end.finished:
            return False  # until the client reads
        try:
            data = end.sock.recv(min(room, yamux.CHUNK) or 1, 0 if room else socket.MSG_PEEK)
        except BlockingIOError:
            del self._to_collect[end]
            return False
        except ConnectionResetError:  # the session has gone without reading all
            data = b""
        if not data:
            del self._to_collect[end]
            end.closed = True
            if self._server.close(end.stream):
                self._drop(end)
        elif room:
            self._server.send(end.stream, data)
            del self._to_collect[end]
            self._to_collect[end] = None
        elif end.finished:
            # A proxy ends a stream when its client leaves, by FIN alone: it reads no more, gives no window,
            # and says so minutes later (StreamCloseTimeout of hashicorp/yamux, 5 minutes), if at all. A
            # session that is stuck in a write would keep its containers as long.
            self._server.reset(end.stream)
            self._drop(end)
        else:
            return False
        return True

    def _write_line(self) -> bool:
        output = self._server.output
        if not output or not self._writable:
            return False
        try:
            count = os.write(self._line.write_fd, output[:_WRITE_SIZE])
        except BlockingIOError:
            self._writable = False
            return False
        except OSError:
            self._over = True
            return False
        del output[:count]
        return True

    def _drop(self, end: _End) -> None:
        """Forget a stream that is over; its session sees the connection end."""
        del self._ends[end.stream], self._by_fd[end.sock.fileno()]
        self._to_deliver.discard(end)
        self._to_collect.pop(end, None)
        self._poll.unregister(end.sock)
        end.close()

    def _drop_all(self) -> None:
        for end in list(self._ends.values()):
            self._drop(end)
