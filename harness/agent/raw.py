"""What the agent does on a raw socket, without frames: DIAL and LISTEN name it by `DOES`."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from .channel import Gone
from .errnos import errno_name
from .seeded import stream
from .sink import Sink
from .wire import Kind

LONGEST = 1 << 17
"""Bytes that one read takes at most: more than two of the longest messages that a client sends."""

CHUNK = 1 << 14
"""Bytes of one write."""


class Seen(NamedTuple):
    """What came of it; DONE has these as a JSON object.

    `bytes` and `messages` (reads that gave something) came in. `wrong`: the first difference from the seeded
    bytes that should have come, null if there is none. `errno`: of the write that ended it, or null.
    """

    bytes: int = 0
    messages: int = 0
    wrong: dict[str, Any] | None = None
    errno: str | None = None


def do(
    connection: socket.socket, wish: dict[str, Any], tell: Callable[[Kind, object], None], asker: int
) -> None:
    """Do what ``wish["does"]`` names, tell DONE, and close `connection`."""
    with connection, contextlib.suppress(Gone):
        try:
            seen = DOES[wish["does"]](connection, wish, asker)
        except OSError as error:
            seen = Seen(errno=errno_name(error))
        tell(Kind.DONE, seen._asdict())


def _echo(connection: socket.socket, wish: dict[str, Any], asker: int) -> Seen:
    """Give back each read as one write, to the end."""
    came = messages = 0
    while piece := connection.recv(LONGEST):
        came += len(piece)
        messages += 1
        connection.sendall(piece)
    return Seen(came, messages)


def _half_close(connection: socket.socket, wish: dict[str, Any], asker: int) -> Seen:
    """Read seeded bytes to the end; only then answer, with as many of the next seed."""
    sink = Sink(wish["seed"], wish["bytes"])
    messages = 0
    while piece := connection.recv(LONGEST):
        sink.take(piece)
        messages += 1
    try:
        for piece in stream(wish["seed"] + 1, wish["bytes"], CHUNK):
            connection.sendall(piece)
    except OSError as error:
        return Seen(sink.came, messages, sink.wrong, errno_name(error))
    return Seen(sink.came, messages, sink.wrong)


def _deaf(connection: socket.socket, wish: dict[str, Any], asker: int) -> Seen:
    """Shut down reading, say so by one byte, and be there until who asked has gone."""
    connection.shutdown(socket.SHUT_RD)
    connection.sendall(b"d")
    poll = select.poll()
    poll.register(asker, select.POLLRDHUP)
    poll.poll()
    return Seen()


def _write(connection: socket.socket, wish: dict[str, Any], asker: int) -> Seen:
    """After one read, by which the other end says that it shut down reading: write."""
    came = len(connection.recv(LONGEST))
    try:
        connection.sendall(b"w")
    except OSError as error:
        return Seen(came, 1, None, errno_name(error))
    return Seen(came, 1)


DOES: dict[str, Callable[[socket.socket, dict[str, Any], int], Seen]] = {
    "echo": _echo,
    "half-close": _half_close,
    "deaf": _deaf,
    "write": _write,
}
"""By name; each takes the connection, the wish, and a descriptor that hangs up when who asked has gone."""
