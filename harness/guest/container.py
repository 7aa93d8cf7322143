"""A client's handle on a container that it started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from harness.agent.wire import Frame, Kind
from harness.guest.conversation import Conversation, decoded, encoded
from harness.guest.errors import Garbled, agent_error, kind_name
from harness.model.deadline import Deadline


class Completed(msgspec.Struct, frozen=True):
    """How a container ended: its exit `code`, or the `signal` that ended it, by name; and all it wrote."""

    stdout: bytes
    stderr: bytes
    code: int | None
    signal: str | None


class _Started(msgspec.Struct, frozen=True):
    pid: int


class _End(msgspec.Struct, frozen=True):
    code: int | None
    signal: str | None


class Container:
    """A container running for this client. Its output is gathered during any call of the same client.

    Made by `AgentClient.start`, whose contract about errors holds here too. Writing to a container that has
    ended, or has closed its stdin, is no error: what is written is lost.
    """

    def __init__(
        self, talk: Conversation, wish: Mapping[str, object], chunk: int, deadline: Deadline | None
    ) -> None:
        self._talk = talk
        self._chunk = chunk
        self._outputs = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        self._started: _Started | None = None
        self._end: _End | None = None
        self._request = talk.open(self._take)
        try:
            self._exchange([Frame(Kind.RUN, self._request, encoded(wish))], "start", deadline)
            talk.exchange((), lambda: self._started is not None, "start", deadline)
        except BaseException:
            talk.close(self._request)
            raise

    @property
    def pid(self) -> int:
        """Its first process's id in the guest."""
        assert self._started is not None
        return self._started.pid

    def write_stdin(self, data: bytes, *, deadline: Deadline | None = None) -> None:
        """Write `data` to its stdin; returns when all is on its way, which may need the container to read."""
        starts = range(0, len(data), self._chunk)
        pieces = (data[start : start + self._chunk] for start in starts)
        self._exchange((Frame(Kind.STDIN, self._request, piece) for piece in pieces), "write stdin", deadline)

    def close_stdin(self, *, deadline: Deadline | None = None) -> None:
        """Let it read the end of its stdin."""
        self._exchange([Frame(Kind.STDIN, self._request)], "close stdin", deadline)

    def signal(self, name: str, *, deadline: Deadline | None = None) -> None:
        """Send its first process a signal, by name as in ``SIGTERM``; nothing happens if it has ended."""
        frame = Frame(Kind.SIGNAL, self._request, encoded({"signal": name}))
        self._exchange([frame], "signal", deadline)

    def wait(self, *, deadline: Deadline | None = None) -> Completed:
        """Wait for its end. May be called again, and then returns the same."""
        self._talk.exchange((), lambda: self._end is not None, "wait for a container", deadline)
        assert self._end is not None
        stdout, stderr = (bytes(output) for output in self._outputs.values())
        return Completed(stdout, stderr, self._end.code, self._end.signal)

    def _exchange(self, frames: list[Frame] | Iterator[Frame], what: str, deadline: Deadline | None) -> None:
        self._talk.exchange(frames, lambda: True, what, deadline)

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.STDOUT | Kind.STDERR:
                self._outputs[Kind(frame.kind)] += frame.payload
            case Kind.REPLY:
                self._started = decoded(frame.payload, _Started)
            case Kind.EXIT:
                self._end = decoded(frame.payload, _End)
                self._talk.close(self._request)
            case Kind.ERROR:
                raise agent_error(frame)
            case _:
                raise Garbled("kind", f"a container sent a {kind_name(frame.kind)}")
