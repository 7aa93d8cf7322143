"""Steps on raw sockets between a client process and the agent, beside the client's own connection.

Each step asks the agent over a connection of its own, which ends with the step, and what the agent made for
it too.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator

import msgspec

from harness.agent.errnos import errno_name
from harness.agent.raw import CHUNK, LONGEST
from harness.agent.seeded import Seeded, stream
from harness.guest.errors import compare
from harness.guest.sockets import AgentSockets, Came, guest_error
from harness.host.cid import CidLease, unheld
from harness.link.connect import KERNEL_TIMEOUT, connect
from harness.link.listen import listening
from harness.model.halves import Answer
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.model.plan import Initiated
from harness.model.steps import Connect, Messages, Shutdown, SocketType, Target

Detail = dict[str, str | int | float | bool | None]
Open = Callable[[Endpoint, SocketType, float], socket.socket]

UNDER_WAY = 4
"""Messages sent before the first of them is read back."""


HYBRID_NOBODY = 4
"""A CID that nobody holds on hybrid-vsock: what its guest sends comes to a process that knows the host and
this one guest (`harness.run.hybrid.GUEST_CID`), so no other VM is ever reached."""


class Wrong(Exception):
    """The step ended, with something else than it should. Texts of at most a line."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"want {expected}, got {seen}")
        self.expected = expected
        self.seen = seen


class Raw:
    """Does such steps for one client.

    :param endpoint: where the agent is.
    :param initiated: who opens the connections.
    :param open_: dials a port of the guest, for tests.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        initiated: Initiated,
        slowness: float,
        *,
        open_: Open = lambda where, kind, patience: connect(where, kind, vsock_timeout=patience),
    ) -> None:
        self._endpoint = endpoint
        self._by_guest = initiated is Initiated.GUEST
        self._patience = KERNEL_TIMEOUT * slowness
        self._open = open_

    def do(self, seed: int, step: Connect | Messages | Shutdown) -> Detail:
        """Do `step`; return what was compared.

        :raise Wrong: something else came of it than should have.
        :raise AgentError, ConnectionLost, Garbled, WrongData: as `AgentClient`.
        """
        try:
            match step:
                case Connect():
                    return self._connect(step)
                case Messages():
                    return self._messages(seed, step)
            return self._shutdown(seed, step)
        except OSError as error:
            raise Wrong("a connection that lasts", errno_name(error)) from error

    # Where connections come from

    def _asked(self) -> AgentSockets:
        return AgentSockets(connect(self._endpoint, vsock_timeout=self._patience))

    def _port(self, port: int) -> Endpoint:
        return msgspec.structs.replace(self._endpoint, port=port)

    @contextlib.contextmanager
    def _opened(
        self, kind: SocketType, does: str, seed: int = 0, total: int = 0
    ) -> Iterator[tuple[socket.socket, AgentSockets]]:
        """A raw connection; the agent does with its end what `does` names.

        :raise Wrong: there is none.
        """
        with contextlib.ExitStack() as stack:
            try:
                agent = stack.enter_context(self._asked())
                if self._by_guest:
                    listener = stack.enter_context(listening(self._endpoint, kind))
                    failed = agent.dial(
                        listener.port, kind, does, seed=seed, total=total, patience=self._patience
                    )
                    if failed is not None:
                        raise guest_error(failed, "connect")
                    connection = listener.accept()
                else:
                    port = agent.listen(kind, does, seed=seed, total=total)
                    connection = self._open(self._port(port), kind, self._patience)
                stack.enter_context(connection)
            except OSError as error:
                raise Wrong(f"a {kind} connection", errno_name(error)) from error
            yield connection, agent

    # connect

    def _connect(self, step: Connect) -> Detail:
        failed = self._tried(step)
        if failed not in step.fails if step.fails else failed:
            raise Wrong(" or ".join(step.fails) or "a connection", failed or "a connection")
        return {"to": step.to.value, "type": step.type.value, "seen": failed or "connected"}

    def _tried(self, step: Connect) -> str:
        """The errno's name; empty if there was a connection."""
        match step.to:
            case Target.NOBODY:
                with self._nobody() as cid:
                    return self._dial_cid(cid, step.type)
            case Target.NO_VM:
                with CidLease.claim() as lease:
                    return self._dial_cid(lease.cid, step.type)
        # for a kind of socket that there isn't, the other end listens with another
        kind = SocketType.STREAM if step.type is SocketType.DGRAM else step.type
        refusing = step.to is Target.REFUSING
        with self._asked() as agent:
            if self._by_guest:
                with listening(self._endpoint, kind, refusing=refusing) as listener:
                    return agent.dial(listener.port, step.type, "echo", patience=self._patience) or ""
            port = agent.listen(kind, "nothing" if refusing else "echo")
            return self._dial(self._port(port), step.type, self._patience)

    def _nobody(self) -> contextlib.AbstractContextManager[int]:
        """A CID that nobody holds."""
        if self._endpoint.link is Link.HYBRID_VSOCK:
            return contextlib.nullcontext(HYBRID_NOBODY)
        return unheld()

    def _dial_cid(self, cid: int, kind: SocketType) -> str:
        """What comes of dialling a CID that nothing will answer from, so the kernel's own 2 s are enough."""
        if not self._by_guest:
            return self._dial(Endpoint(link=Link.VSOCK, cid=cid, port=AGENT_PORT), kind, KERNEL_TIMEOUT)
        with self._asked() as agent:
            return agent.dial(AGENT_PORT, kind, "echo", cid=cid) or ""

    def _dial(self, where: Endpoint, kind: SocketType, patience: float) -> str:
        try:
            self._open(where, kind, patience).close()
        except OSError as error:
            return errno_name(error)
        return ""

    # messages

    def _messages(self, seed: int, step: Messages) -> Detail:
        sizes = _sizes(seed, step)
        data = Seeded(seed, sum(sizes))
        messages: list[bytes] = []
        for size in sizes:
            messages.append(data.piece(sum(map(len, messages)), size))
        with self._opened(SocketType.SEQPACKET, "echo") as (connection, agent):
            for start in range(0, len(messages), UNDER_WAY):
                for message in messages[start : start + UNDER_WAY]:
                    connection.sendall(message)
                for number, message in enumerate(messages[start : start + UNDER_WAY], start):
                    came = connection.recv(LONGEST)
                    if len(came) != len(message):
                        raise Wrong(f"message {number + 1} of {len(message)} bytes", f"{len(came)} bytes")
                    compare("message", 0, message, came)
            connection.shutdown(socket.SHUT_WR)
            _expect("the end", connection.recv(LONGEST))
            _agent_saw(agent.came(), data.total, len(messages))
        return {"messages": len(messages), "bytes": data.total, "seed": seed}

    # shutdown

    def _shutdown(self, seed: int, step: Shutdown) -> Detail:
        seen: Detail = {"bytes": step.bytes, "seed": seed, "type": step.type.value}
        seen["own-write"] = self._half_closed(seed, step)
        seen["answer"] = step.answer.value
        with self._opened(step.type, "deaf") as (connection, _):
            if not connection.recv(1):
                raise Wrong("the agent's word that it has shut down reading", "the end")
            seen["to-deaf-agent"] = _as("to-deaf-agent", step.deaf.value, _written(connection))
        with self._opened(step.type, "write") as (connection, agent):
            connection.shutdown(socket.SHUT_RD)
            connection.sendall(b"s")
            came = agent.came()
            write = (came.errno or "written") + ("" if came.bytes else ", nothing read before")
            seen["agents-write"] = _as("agents-write", step.deaf.value, write)
        return seen

    def _half_closed(self, seed: int, step: Shutdown) -> str:
        """Half-close writing, and read what comes; what an own write after it gives."""
        with self._opened(step.type, "half-close", seed, step.bytes) as (connection, agent):
            for piece in stream(seed, step.bytes, CHUNK):
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            written = _as("own-write", "EPIPE", _written(connection))
            wanted = step.bytes if step.answer is Answer.WHOLE else 0
            expected = Seeded(seed + 1, step.bytes)
            came = 0
            while piece := connection.recv(LONGEST):
                compare("answer", came, expected.piece(came, len(piece)), piece)
                came += len(piece)
            if came != wanted:
                raise Wrong(f"an answer of {wanted} bytes", f"its end after {came}")
            _agent_saw(agent.came(), step.bytes, answered=step.answer is Answer.WHOLE)
        return written


def _sizes(seed: int, step: Messages) -> list[int]:
    """Lengths of the messages: the longest, the shortest, then any."""
    any_ = random.Random(seed)
    return [step.bytes, 1, *(any_.randint(1, step.bytes) for _ in range(step.times))][: step.times]


def _written(connection: socket.socket) -> str:
    """The errno's name of a write."""
    try:
        connection.sendall(b"x")
    except OSError as error:
        return errno_name(error)
    return "written"


def _as(name: str, wanted: str, seen: str) -> str:
    """`seen`, which is as `wanted`."""
    if seen != wanted:
        raise Wrong(f"{name} {wanted}", seen)
    return seen


def _agent_saw(came: Came, total: int, messages: int | None = None, *, answered: bool = True) -> None:
    """It read all that was sent; and wrote its answer, where there is one to be `answered`."""
    seen = (
        f"{came.bytes} bytes in {came.messages} reads, {came.wrong or 'right'}, {came.errno or 'to the end'}"
    )
    right = came.bytes == total and came.wrong is None and not (answered and came.errno)
    if not right or (messages is not None and came.messages != messages):
        wanted = f"{total} bytes" + (f" in {messages} messages" if messages is not None else "")
        raise Wrong(f"the agent to read {wanted}", seen)


def _expect(what: str, came: bytes) -> None:
    if came:
        raise Wrong(what, f"{len(came)} bytes")
