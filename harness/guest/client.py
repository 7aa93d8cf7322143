"""The blocking client of the agent, for client processes: one connection, one conversation."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from harness.agent.bulk import BULK, LowMark, widen
from harness.agent.seeded import Seeded
from harness.agent.sink import pieces
from harness.agent.wire import MAX_PAYLOAD, Bulk, Frame, Kind
from harness.guest.answers import Device, Facts, Hello
from harness.guest.container import Completed, Container
from harness.guest.conversation import Conversation, decoded, encoded, payload, was_sunk
from harness.guest.errors import AgentError, ConnectionLost, Garbled, StaleReply, WrongData, compare
from harness.model.deadline import Deadline

__all__ = [
    "AgentClient",
    "AgentError",
    "Completed",
    "ConnectionLost",
    "Container",
    "Facts",
    "Garbled",
    "Hello",
    "StaleReply",
    "WrongData",
]

A = TypeVar("A")
Progress = Callable[[int], None]


class AgentClient:
    """A client of the agent over a connected, blocking stream socket of any family, which it closes.

    Every call waits for its answer, for ever unless given a deadline, and raises

    * `DeadlinePassed`: the answer may still come, and is then dropped; the next call works;
    * `AgentError`: the agent refused this request; the next call works;
    * `StaleReply`: an answer to another client's request came first; the next call works;
    * `Garbled`, `ConnectionLost`, `WrongData`: the connection is of no further use.

    Payloads are sent in frames of `chunk` bytes. Of an echo at most `window` bytes, or one
    frame, are unanswered at a time: a serial port without flow control wants that small. For one thread.
    """

    def __init__(self, sock: socket.socket, *, chunk: int = 64 * 1024, window: int = 1 << 20) -> None:
        self._sock = sock
        self._chunk = chunk
        self._window = window
        self._talk = Conversation(sock)

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def notices(self) -> Sequence[AgentError]:
        """What the agent complained of without naming a request, such as a bad frame; oldest first."""
        return self._talk.notices

    def close(self) -> None:
        """Leave. The agent sees the end of the connection, if the link can tell it."""
        self._sock.close()

    def hello(self, *, sole: bool = False, deadline: Deadline | None = None) -> Hello:
        """Ask who is there.

        :param sole: say that this is the only client now: on a serial port, the agent ends the containers of
            those before, whose leaving it may not have seen. Means nothing on vsock.
        """
        return self._ask(Kind.HELLO, {"sole": sole}, Hello, deadline)

    def cloned(self, boot_id: str, now: int, *, deadline: Deadline | None = None) -> Hello:
        """Tell a clone who it is: its boot's id (a UUID in lower case) and the time, in ns since 1970.

        :raise AgentError: ``not-in-guest`` where the machine is a developer's, or the errno's name.
        """
        return self._ask(Kind.CLONED, {"boot_id": boot_id, "now": now}, Hello, deadline)

    def facts(self, *, deadline: Deadline | None = None) -> Facts:
        """Ask what the agent holds."""
        return self._ask(Kind.FACTS, {}, Facts, deadline)

    def open_device(self, device: str = "self", *, deadline: Deadline | None = None) -> str:
        """Have the agent open a device of the guest once more, and close it again.

        :param device: a path in the guest, or ``self``: the device of the link in use.
        :return: ``opened``, the errno's name, or ``no-device`` if the link in use has none.
        """
        answer = self._ask(Kind.OPEN_DEVICE, {"device": device}, Device, deadline)
        if answer.device is None:
            return "no-device"
        return "opened" if answer.opened else str(answer.errno)

    def echo(
        self, data: bytes, *, on_progress: Progress | None = None, deadline: Deadline | None = None
    ) -> None:
        """Send `data`, get it back, compare. With b"" one empty frame goes round.

        :param on_progress: called with the number of bytes that have come back equal.
        :raise WrongData: if they differ.
        """
        sent = came = 0
        opened: list[int] = []

        def frames() -> Iterator[Frame]:
            nonlocal sent
            for start in range(0, max(len(data), 1), self._chunk):
                piece = data[start : start + self._chunk]
                request = self._talk.open(answer_to(start, piece))
                opened.append(request)
                sent += len(piece)
                yield Frame(Kind.ECHO, request, piece)

        def answer_to(start: int, piece: bytes) -> Callable[[Frame], None]:
            def answered(frame: Frame) -> None:
                nonlocal came
                compare("echo", start, piece, payload(frame, Kind.DATA))
                self._talk.close(frame.request)
                opened.remove(frame.request)
                came += len(piece)
                if on_progress:
                    on_progress(came)

            return answered

        def may_write() -> bool:
            return sent == came or sent - came + self._chunk <= self._window

        try:
            self._talk.exchange(frames(), lambda: not opened, "echo", deadline, may_write)
        finally:
            for request in opened:
                self._talk.close(request)

    def ask_later(self, data: bytes, *, deadline: Deadline | None = None) -> int:
        """Ask for an echo that the agent keeps until just before its next reply on this channel.

        :return: the request id, once all is written; whose reply is dropped if it comes to this client.
        """
        request = self._talk.open(lambda frame: None)
        self._talk.close(request)
        frame = Frame(Kind.ECHO_LATER, request, data)
        self._talk.exchange([frame], lambda: True, "ask later", deadline)
        return request

    def send(
        self,
        seed: int,
        total: int,
        *,
        on_progress: Progress | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Send `total` bytes of seeded data, which the agent compares with what they must be.

        :param on_progress: called with the number of bytes handed to the connection, before each frame.
        :raise WrongData: if the agent saw others, or another number of them.
        """

        wide = total >= BULK and widen(self._sock)

        def frames(request: int) -> Iterator[Frame | Bulk]:
            yield Frame(Kind.SINK, request, encoded({"seed": seed, "bytes": total}))
            sent = 0
            for piece in pieces(request, seed, total, MAX_PAYLOAD if wide else self._chunk, bulk=wide):
                yield piece
                sent += len(piece.payload)
                if on_progress:
                    on_progress(sent)

        answers: list[bytes] = []

        def answered(frame: Frame) -> None:
            answers.append(payload(frame, Kind.DONE))

        self._talk.call(frames, answered, lambda: bool(answers), "send", deadline)
        was_sunk("send", answers[0], total)

    def receive(
        self,
        seed: int,
        total: int,
        *,
        stop_after: int | None = None,
        on_progress: Progress | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Have the agent send `total` bytes of seeded data, and compare them with what they must be.

        :param stop_after: return when at least so many bytes have come, and leave the rest unread: the agent
            keeps sending until the link is full. A later call reads and drops the rest.
        :param on_progress: called with the number of bytes that have come and were right.
        :raise WrongData: if they differ.
        """
        wide = total >= BULK and stop_after is None and widen(self._sock)
        if wide:
            self._talk.low_mark = self._talk.low_mark or LowMark(self._sock)
        wish = {"seed": seed, "bytes": total, "chunk": MAX_PAYLOAD if wide else self._chunk, "bulk": wide}
        expected = Seeded(seed, total)
        came = 0
        done: list[bytes] = []

        def frames(request: int) -> Iterator[Frame]:
            yield Frame(Kind.SOURCE, request, encoded(wish))

        def answered(frame: Frame) -> None:
            if frame.kind == Kind.DONE:
                done.append(frame.payload)
                compare("receive: count", 0, str(total).encode(), str(came).encode())
            else:
                take(payload(frame, Kind.DATA))

        def take(piece: bytes | memoryview) -> None:
            nonlocal came
            if not expected.holds(came, piece):
                compare("receive", came, expected.piece(came, len(piece)), bytes(piece))
            came += len(piece)
            if on_progress:
                on_progress(came)

        def finished() -> bool:
            return bool(done) or (stop_after is not None and came >= stop_after)

        self._talk.call(frames, answered, finished, "receive", deadline, bulk=take)

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        deadline: Deadline | None = None,
    ) -> Container:
        """Start a container: a process in the guest, which ends when this client leaves.

        :param env: variables beside those of the agent.
        :raise AgentError: if it cannot be started, with the errno's name as code.
        """
        wish = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd}
        return Container(self._talk, wish, self._chunk, deadline)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        deadline: Deadline | None = None,
    ) -> Completed:
        """`start` a container, write `stdin`, close it, wait. However the container ends is no error."""
        container = self.start(argv, env=env, cwd=cwd, deadline=deadline)
        container.write_stdin(stdin, deadline=deadline)
        container.close_stdin(deadline=deadline)
        return container.wait(deadline=deadline)

    def _ask(self, kind: Kind, wish: Mapping[str, object], answer: type[A], deadline: Deadline | None) -> A:
        answers: list[bytes] = []

        def frames(request: int) -> Iterator[Frame]:
            yield Frame(kind, request, encoded(wish))

        def answered(frame: Frame) -> None:
            answers.append(payload(frame, Kind.REPLY))

        self._talk.call(frames, answered, lambda: bool(answers), kind.name.lower(), deadline)
        return decoded(answers[0], answer)
