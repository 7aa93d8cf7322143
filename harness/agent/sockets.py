"""Sockets that the agent makes on a client's word: it dials the host, or listens for it.

On vsock; an agent that serves a Unix socket PATH instead, for development, has them at ``PATH_PORT``, as a
hybrid vsock device has on the host.
"""

import contextlib
import errno
import os
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from . import raw
from .again import AGAIN, again
from .channel import Channel, ConnectionChannel
from .errnos import errno_name
from .wire import Kind

HOST = 2
"""The host's CID for its guests (VMADDR_CID_HOST, vsock(7))."""

DIAL = {
    "cid": HOST,
    "port": 0,
    "type": "stream",
    "does": "session",
    "seed": 0,
    "bytes": 0,
    "patience": 0,
    "label": "",
}
"""DIAL's fields with their defaults; `patience` in ms, 0 is the kernel's own (2 s)."""

LISTEN = {"type": "stream", "does": "echo", "seed": 0, "bytes": 0}
"""LISTEN's fields with their defaults."""

TYPES = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}
"""Socket types by the names that requests have for them."""

PORTS = range(1 << 14, 1 << 16)
"""Where a port is looked for beside a Unix socket; on vsock the kernel gives one."""

_SO_VM_SOCKETS_CONNECT_TIMEOUT = 6  # linux/vm_sockets.h
_TRIES = 64

Wish = dict[str, Any]
Tell = Callable[[Kind, object], None]


class Sockets:
    """Makes sockets on vsock, or beside the Unix socket `beside`. Every method may be called by any thread.

    Errors of the sockets are told by name; both requests raise `ValueError` for a type or a doing that there
    isn't, `RuntimeError` if no thread can be had.

    :param start: serves a channel in a thread of its own.
    :param note: keeps in mind how what has a label ended, as FACTS tells it.
    """

    def __init__(
        self, start: Callable[[Channel], object], note: Callable[[str, str], None], beside: str = ""
    ) -> None:
        self._start = start
        self._note = note
        self._beside = beside
        self._family = socket.AF_UNIX if beside else socket.AF_VSOCK

    def dial(self, wish: Wish, tell: Tell, asker: int) -> None:
        """Dial as `wish` (see `DIAL`) says. REPLY tells the errno's name, or null once it is connected.

        Then the connection is served as a client's (``session``), or a thread of its own does with it what
        ``does`` names (`raw.DOES`) and DONE tells what came of that. With ``again`` a thread of its own dials
        without end (`again.again`), and REPLY comes before; by ``label`` FACTS tells how that failed.

        :param asker: hangs up when who asked has gone.
        """
        _check(wish, "session", AGAIN)
        if wish["does"] == AGAIN:
            tell(Kind.REPLY, {"errno": None})
            _in_thread(again, asker, partial(self._dialled, wish), partial(self._note, wish["label"]))
            return
        try:
            connection = self._dialled(wish)
        except OSError as error:
            tell(Kind.REPLY, {"errno": errno_name(error)})
            return
        if wish["does"] == "session":
            self._start(ConnectionChannel("unix" if self._beside else "vsock", connection))
            tell(Kind.REPLY, {"errno": None})
            return
        with _closed_on_error(connection):
            tell(Kind.REPLY, {"errno": None})
            _in_thread(raw.do, asker, connection, wish, tell)

    def listen(self, wish: Wish, tell: Tell, asker: int) -> None:
        """Bind a port that nobody has, as `wish` (see `LISTEN`) says. REPLY tells it, or the errno's name.

        A thread of its own takes one connection from it, does with that what ``does`` names (`raw.DOES`), and
        DONE tells what came of it. With ``nothing`` the port is held, but nobody listens on it.

        :param asker: hangs up when who asked has gone; the port is free again then.
        """
        _check(wish, "nothing")
        try:
            listener, port = self._bound(TYPES[wish["type"]])
        except OSError as error:
            tell(Kind.REPLY, {"errno": errno_name(error), "port": 0})
            return
        with _closed_on_error(listener):
            if wish["does"] != "nothing":
                listener.listen(1)
            tell(Kind.REPLY, {"errno": None, "port": port})
            _in_thread(self._take_one, asker, listener, port, wish, tell)

    def _dialled(self, wish: Wish) -> socket.socket:
        connection = socket.socket(self._family, TYPES[wish["type"]])
        with _closed_on_error(connection):
            if not self._beside:
                if wish["patience"]:
                    _set_timeout(connection, wish["patience"])
                connection.connect((wish["cid"], wish["port"]))
            elif wish["cid"] != HOST:
                raise OSError(errno.ENODEV, "beside a Unix socket there is only the host")
            else:
                connection.connect(self._path(wish["port"]))
        return connection

    def _bound(self, kind: socket.SocketKind) -> tuple[socket.socket, int]:
        listener = socket.socket(self._family, kind)
        with _closed_on_error(listener):
            if not self._beside:
                listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
                return listener, int(listener.getsockname()[1])
            for port in random.SystemRandom().sample(PORTS, _TRIES):
                with contextlib.suppress(OSError):
                    listener.bind(self._path(port))
                    return listener, port
            raise OSError(errno.EADDRINUSE, "all ports that were tried are taken")

    def _take_one(self, listener: socket.socket, port: int, wish: Wish, tell: Tell, asker: int) -> None:
        with contextlib.ExitStack() as stack:
            if self._beside:
                stack.callback(os.unlink, self._path(port))
            with listener:
                if not _comes(listener, wish["does"] != "nothing", asker):
                    return
                connection, _ = listener.accept()
        raw.do(connection, wish, tell, asker)

    def _path(self, port: int) -> str:
        return f"{self._beside}_{port}"


def _check(wish: Wish, *besides: str) -> None:
    if wish["type"] not in TYPES:
        raise ValueError(f"type {wish['type']!r}; allowed: {', '.join(TYPES)}")
    if wish["does"] not in (*raw.DOES, *besides):
        raise ValueError(f"does {wish['does']!r}; allowed: {', '.join((*raw.DOES, *besides))}")
    for field in ("cid", "port", "patience"):
        if wish.get(field, 0) >= 1 << 32:
            raise ValueError(f"{field} {wish[field]} is more than 32 bits")


def _comes(listener: socket.socket, listens: bool, asker: int) -> bool:
    """Wait for a connection; False if who asked for it has gone first."""
    poll = select.poll()
    poll.register(asker, select.POLLRDHUP)
    if listens:
        poll.register(listener, select.POLLIN)
    return all(fd != asker for fd, _ in poll.poll())


def _in_thread(do: Callable[..., object], asker: int, *arguments: object) -> None:
    """``do(*arguments, asker)`` in a thread, with a copy of `asker`: the number may be another's later."""
    copy = os.dup(asker)

    def run() -> None:
        try:
            do(*arguments, copy)
        finally:
            os.close(copy)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        os.close(copy)
        raise


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _set_timeout(connection: socket.socket, patience: int) -> None:
    """SO_VM_SOCKETS_CONNECT_TIMEOUT, in ms.

    By a socket object of another family on the same descriptor: for AF_VSOCK Python takes only numbers
    (sock_setsockopt in Modules/socketmodule.c), and this is a struct timeval.
    """
    value = struct.pack("=qq", patience // 1000, patience % 1000 * 1000)
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connection.fileno())
    try:
        other.setsockopt(socket.AF_VSOCK, _SO_VM_SOCKETS_CONNECT_TIMEOUT, value)
    finally:
        other.detach()
