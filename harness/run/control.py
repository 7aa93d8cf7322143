"""What coordinator and client process say to each other: one message a datagram, descriptors beside them.

The pipe is an AF_UNIX SOCK_SEQPACKET pair: it keeps the bounds of messages, carries descriptors (SCM_RIGHTS),
and its end is seen at once by the other side, in whatever way the peer died (unix(7)).
"""

from __future__ import annotations

import os
import socket
from enum import StrEnum

import msgspec

from harness.model.link import Endpoint
from harness.model.plan import Initiated
from harness.model.steps import Step
from harness.model.trace import Event

MESSAGE_MAX = 1 << 16
"""The longest message in bytes; SO_SNDBUF's default (208 KiB) takes it in one piece."""


class Born(msgspec.Struct, frozen=True, tag="born"):
    """Forker → coordinator, with a pidfd: the client is process `pid` and waits for `Begin`."""

    pid: int


class Died(msgspec.Struct, frozen=True, tag="died"):
    """Forker → coordinator, the last message: the client was reaped.

    `status` is as of `os.waitstatus_to_exitcode`.
    """

    status: int


class Saw(msgspec.Struct, frozen=True, tag="saw"):
    """Client → coordinator: an event for the trace."""

    event: Event


class Crashed(msgspec.Struct, frozen=True, tag="crashed"):
    """Client → coordinator: the client's own code failed; it ends now."""

    error: str


class Connection(msgspec.Struct, frozen=True, tag="connection"):
    """Both ways, with a descriptor: the connection that a group shares."""


class Role(StrEnum):
    """Where a client's connection comes from."""

    ALONE = "alone"  # connects for itself
    OPENER = "opener"  # connects for its group, hands the connection on, waits for `Go`
    SHARER = "sharer"  # gets the connection of its group's opener, waits for `Go`


class Tool(msgspec.Struct, frozen=True):
    """What a client runs that is a tool of the host's: the words, and variables beside its own."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """Coordinator → client: who you are and what to do. The first message, sent once.

    `leave`: close the connection after the last step, don't hold it. `tool`: be that, instead of a client of
    the agent at `endpoint`. `slowness`: how many times slower than a
    plain machine this one is; stretches the client's own patience.
    """

    client: str
    scenario: str
    steps: tuple[Step, ...]
    endpoint: Endpoint
    initiated: Initiated = Initiated.HOST
    role: Role
    leave: bool
    slowness: float
    tool: Tool | None = None


class Go(msgspec.Struct, frozen=True, tag="go"):
    """Coordinator → client: what you waited for is there: a group's event, or all who share a line.

    Of a fault, the first one says that all are there; the second that it was done, `at` that time
    (CLOCK_MONOTONIC), and when it `began`: since then it may have been seen; the third that it is over as far
    as it ever is, with the `endpoint` where the agent is now, if that is another, and whether there is one;
    and whether a port is `taken` over, by whoever opened it anew: of what was under way nothing is sure.
    """

    at: float = 0.0
    began: float = 0.0
    endpoint: Endpoint | None = None
    agent: bool = True
    taken: bool = False


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Coordinator → holding client: make one more round trip."""


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Coordinator → holding client: close your connection and end."""


Report = Born | Died | Saw | Crashed | Connection
"""What a coordinator receives."""

Order = Begin | Go | Ping | Leave | Connection
"""What a client receives."""

_encode = msgspec.json.Encoder().encode
_decode_report = msgspec.json.Decoder(Report).decode
_decode_order = msgspec.json.Decoder(Order).decode


def pair() -> tuple[socket.socket, socket.socket]:
    """A new pipe: the coordinator's end (non-blocking), the client's end (blocking)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def send(sock: socket.socket, message: Report | Order, *fds: int) -> None:
    """Send one message, and `fds` with it.

    :raise OSError: EPIPE or ECONNRESET when the other side is gone.
    """
    socket.send_fds(sock, [_encode(message)], list(fds))


def tell(sock: socket.socket, event: Event) -> None:
    """Send an event to the coordinator; where that has gone, this process ends: nobody wants it any more."""
    try:
        send(sock, Saw(event))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def receive_report(sock: socket.socket) -> tuple[Report | None, int]:
    """The next message of a client or its forker, and the descriptor that came with it (-1 without one).

    None means that the other side is gone. The caller owns the descriptor.

    :raise BlockingIOError: when there's none now.
    """
    data, fd = _receive(sock)
    return (_decode_report(data) if data else None), fd


def receive_order(sock: socket.socket) -> tuple[Order | None, int]:
    """Wait for the coordinator's next message; None means that the coordinator is gone."""
    data, fd = _receive(sock)
    return (_decode_order(data) if data else None), fd


def _receive(sock: socket.socket) -> tuple[bytes, int]:
    try:
        data, fds, _, _ = socket.recv_fds(sock, MESSAGE_MAX, 1)
    except ConnectionResetError:
        # The other side closed with messages unread (unix(7)). That is told once, and before what it had sent
        # (net/core/datagram.c, __skb_try_recv_datagram looks for an error first).
        data, fds, _, _ = socket.recv_fds(sock, MESSAGE_MAX, 1)
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, (fds[0] if fds else -1)
