"""Asking the agent for sockets: that it dials the host, or listens for it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

import msgspec

from harness.agent.sockets import HOST
from harness.agent.wire import Frame, Kind
from harness.guest.conversation import Conversation, decoded, encoded
from harness.guest.errors import Garbled, agent_error, kind_name
from harness.model.deadline import Deadline
from harness.model.steps import SocketType


class Came(msgspec.Struct, frozen=True):
    """What the agent's end of a raw connection saw (`harness.agent.raw.Seen`); `wrong` is for people."""

    bytes: int
    messages: int
    wrong: dict[str, int | str] | None
    errno: str | None


class _Reply(msgspec.Struct, frozen=True):
    errno: str | None
    port: int = 0


class AgentSockets:
    """One socket that the agent makes, asked for over `sock`, a connection of its own, which this closes.

    What the agent does on it ends with that, whatever it is. Each call raises as `AgentClient`'s do;
    `AgentError` has the code ``no-connection`` where the way to the agent is a serial port.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._talk = Conversation(sock)
        self._reply: _Reply | None = None
        self._came: Came | None = None

    def __enter__(self) -> AgentSockets:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def dial(
        self,
        port: int,
        kind: SocketType = SocketType.STREAM,
        does: str = "session",
        *,
        cid: int = HOST,
        seed: int = 0,
        total: int = 0,
        patience: float = 0.0,
        deadline: Deadline | None = None,
    ) -> str | None:
        """Have the agent dial a port of `cid`, by default of the host; return the errno's name if it can't.

        :param does: what it does with the connection: ``session`` serves it as any client's,
            `harness.agent.raw.DOES` has the others, with the seed and number of bytes that some of them take.
        :param patience: seconds that the guest's kernel waits for an answer; 0 is its own 2 s.
        """
        wish = {"cid": cid, "port": port, "type": kind.value, "does": does}
        rest = {"seed": seed, "bytes": total, "patience": round(patience * 1000)}
        return self._ask(Kind.DIAL, {**wish, **rest}, deadline).errno

    def listen(
        self,
        kind: SocketType = SocketType.STREAM,
        does: str = "echo",
        *,
        seed: int = 0,
        total: int = 0,
        deadline: Deadline | None = None,
    ) -> int:
        """Have the agent bind a port of the guest that nobody has; return its number.

        It takes one connection there.

        :param does: what it does with that, as in `dial`; ``nothing`` holds the port without listening.
        :raise OSError: with the guest's errno, if its kernel gives no such socket.
        """
        wish = {"type": kind.value, "does": does, "seed": seed, "bytes": total}
        reply = self._ask(Kind.LISTEN, wish, deadline)
        if reply.errno is not None:
            raise guest_error(reply.errno, "bind")
        return reply.port

    def came(self, *, deadline: Deadline | None = None) -> Came:
        """Wait until the agent is done with the connection; what its end saw."""
        self._talk.exchange((), lambda: self._came is not None, "what the agent saw", deadline)
        assert self._came is not None
        return self._came

    def _ask(self, kind: Kind, wish: Mapping[str, object], deadline: Deadline | None) -> _Reply:
        request = self._talk.open(self._take)
        frame = Frame(kind, request, encoded(wish))
        self._talk.exchange([frame], lambda: self._reply is not None, kind.name.lower(), deadline)
        assert self._reply is not None
        return self._reply

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.REPLY:
                self._reply = decoded(frame.payload, _Reply)
            case Kind.DONE:
                self._came = decoded(frame.payload, Came)
            case Kind.ERROR:
                raise agent_error(frame)
            case _:
                raise Garbled("kind", f"want what became of a socket, read a {kind_name(frame.kind)}")


def guest_error(name: str, what: str) -> OSError:
    """The guest's errno by its name, as an error of `what` it did."""
    return OSError(getattr(errno, name, 0), f"the guest's {what}() failed with {name}")
