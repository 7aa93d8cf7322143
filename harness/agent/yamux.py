"""The server side of yamux, which carries many streams over one line: the protocol alone, no I/O.

The format is that of hashicorp/yamux's spec.md. A frame is a header, in network order ::

    version u8 = 0 | type u8 | flags u16 | stream u32 | length u32

and, for Data only, `length` bytes. A client opens streams of odd ids by SYN; FIN ends one direction, RST
both. Each side may send on a stream as many bytes of data as its window has, `WINDOW` at first; Window Update
adds to it. So a stream whose reader does not read takes up no more than its window, and holds up no other.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Union

WINDOW = 256 * 1024
"""Bytes that each side may send on a new stream."""

CHUNK = 16 * 1024
"""Bytes of data in one frame at most: on a slow line, others wait that long for their turn."""

MAX_STREAMS = 1024
"""Streams open at a time; what a client opens beyond is reset."""

_HEADER = struct.Struct(">BBHII")
_LARGEST_WINDOW = (1 << 32) - 1


class Type(enum.IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


SYN, ACK, FIN, RST = 1, 2, 4, 8

NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = 0, 1, 2
"""Codes of Go Away."""


class Opened(NamedTuple):
    """The client opened a stream. Answer with `Server.accept` or `Server.reset`."""

    stream: int


class Data(NamedTuple):
    """Bytes came on a stream. Tell `Server.consumed` once they are out of the way."""

    stream: int
    data: bytes


class Finished(NamedTuple):
    """The client sends no more on this stream."""

    stream: int


class Reset(NamedTuple):
    """A stream is over: by RST, or because the whole session began anew."""

    stream: int


class Ended(NamedTuple):
    """The session is over, and says no more; why, for people. The streams are not told of one by one.

    `rest` is what was fed behind the frame that ended it.
    """

    reason: str
    rest: bytes


Event = Union[Opened, Data, Finished, Reset, Ended]


class Broken(Exception):
    """The other end does not keep to the protocol."""


class _Stream:
    """One open stream. `room`: what the client may send; `window`: what may be sent to it."""

    def __init__(self) -> None:
        self.room = WINDOW
        self.consumed = 0
        self.window = WINDOW
        self.finished = False  # by the client
        self.closed = False  # by this side


BEGINNING = 8
"""Bytes that `beginning` looks for."""

_BEGINNING = re.compile(b"\0[\0\1]\0\1\0\0\0\1")  # Data or Window Update, SYN, stream 1


def beginning(data: bytes) -> int:
    """Where in `data` a client's session seems to begin: at the SYN of stream 1; -1 if nowhere."""
    found = _BEGINNING.search(data)
    return found.start() if found else -1


def frame(kind: Type, flags: int, stream: int, length: int, data: bytes = b"") -> bytes:
    """A frame's bytes; `length` is that of `data` for `Type.DATA`, else a value of its own."""
    return _HEADER.pack(0, kind, flags, stream, length) + data


class Server:
    """One session. What is to be sent gathers in `output`; whoever sends takes it out of there."""

    def __init__(self) -> None:
        self.output = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._newest = -1
        self._began = False
        self._header = bytearray()
        self._body = 0  # bytes of the present frame's data that are still to come
        self._owner = 0  # the stream they are for
        self._flags = 0
        self._rest = memoryview(b"")
        self._over = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take what was read from the line; give what it means, piece by piece as it is taken.

        Whatever the other end sends, this raises nothing: what the protocol does not allow ends the session
        with a Go Away, and all that comes later is dropped.
        """
        try:
            yield from self._take(memoryview(data))
        except Broken as error:
            yield self._end(PROTOCOL_ERROR, str(error))

    def accept(self, stream: int) -> None:
        """Tell the client that its stream is served."""
        self._send(Type.WINDOW_UPDATE, ACK, stream, 0)

    def consumed(self, stream: int, count: int) -> None:
        """`count` bytes of a stream's data are out of the way, so the client may send that much more.

        The client is told once it is half a window, as each message costs.
        """
        state = self._streams.get(stream)
        if state is None or state.finished:
            return
        state.consumed += count
        if state.consumed >= WINDOW // 2:
            self._send(Type.WINDOW_UPDATE, 0, stream, state.consumed)
            state.room += state.consumed
            state.consumed = 0

    def room(self, stream: int) -> int:
        """How many bytes may be sent on a stream now; 0 as well if it is over or closed."""
        state = self._streams.get(stream)
        return 0 if state is None or state.closed else state.window

    def send(self, stream: int, data: bytes) -> None:
        """Send data, no more than `room`, in frames of at most `CHUNK`."""
        state = self._streams[stream]
        assert len(data) <= state.window
        state.window -= len(data)
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            self._send(Type.DATA, 0, stream, len(piece), piece)

    def close(self, stream: int) -> bool:
        """Send no more on a stream. Whether that was its end, because the client had finished before."""
        state = self._streams.get(stream)
        if state is None or state.closed:
            return state is None
        state.closed = True
        self._send(Type.WINDOW_UPDATE, FIN, stream, 0)
        return self._drop_done(stream, state)

    def reset(self, stream: int) -> None:
        """End a stream at once, both ways."""
        if self._streams.pop(stream, None):
            self._send(Type.WINDOW_UPDATE, RST, stream, 0)

    def _take(self, data: memoryview) -> Iterator[Event]:
        while data and not self._over:
            if self._body:
                piece = data[: self._body]
                self._body -= len(piece)
                if self._owner in self._streams:
                    yield Data(self._owner, bytes(piece))
            else:
                piece = data[: _HEADER.size - len(self._header)]
                self._header += piece
                if len(self._header) == _HEADER.size:
                    header = _HEADER.unpack(self._header)
                    self._header.clear()
                    self._rest = data[len(piece) :]
                    yield from self._handle(*header)
            data = data[len(piece) :]
            if not self._body and not self._header:
                yield from self._finish_frame()

    def _handle(self, version: int, kind: int, flags: int, stream: int, length: int) -> Iterator[Event]:
        if version != 0:
            raise Broken(f"version {version}")
        self._owner, self._flags = stream, 0
        if kind == Type.PING:
            if flags & SYN:
                self._send(Type.PING, ACK, 0, length)
        elif kind == Type.GO_AWAY:
            if length != NORMAL:  # a normal one: the client wants no streams opened to it, and none are
                yield self._end(None, f"the other end went away with code {length}")
        elif kind in (Type.DATA, Type.WINDOW_UPDATE):
            self._flags = flags
            if flags & SYN:
                yield from self._open(stream)
            if kind == Type.DATA:
                self._expect(stream, length)
            else:
                self._widen(stream, length)
        else:
            raise Broken(f"type {kind}")

    def _open(self, stream: int) -> Iterator[Event]:
        """A SYN. No id is used twice, and a client's first is 1: another 1 comes from a new client.

        It took the place of one whose leaving was not seen, as on a virtio port when the next one waits.
        """
        if stream % 2 == 0:
            raise Broken(f"a client opens stream {stream}")
        if stream == 1 and self._began:
            gone, self._streams = self._streams, {}
            self.output.clear()
            self._newest = -1
            for number in gone:
                yield Reset(number)
        if stream in self._streams:
            raise Broken(f"stream {stream} is opened twice")
        self._began = self._began or stream == 1
        self._newest = max(self._newest, stream)
        if len(self._streams) >= MAX_STREAMS:
            self._send(Type.WINDOW_UPDATE, RST, stream, 0)
            return
        self._streams[stream] = _Stream()
        yield Opened(stream)

    def _expect(self, stream: int, length: int) -> None:
        """A data frame's header: `length` bytes follow."""
        state = self._find(stream)
        room = state.room if state else WINDOW
        if length > room:
            raise Broken(f"{length} bytes on stream {stream}, whose window has {room}")
        if state is not None:
            if length and state.finished:
                raise Broken(f"{length} bytes on stream {stream} after its end")
            state.room -= length
        self._body = length

    def _widen(self, stream: int, length: int) -> None:
        state = self._find(stream)
        if state is not None:
            if state.window + length > _LARGEST_WINDOW:
                raise Broken(f"the window of stream {stream} exceeds 32 bits")
            state.window += length

    def _find(self, stream: int) -> _Stream | None:
        """An open stream; None for one that is over, about which the client may not know yet."""
        state = self._streams.get(stream)
        if state is None and (stream % 2 == 0 or stream > self._newest):
            raise Broken(f"a frame for stream {stream}, which was never opened")
        return state

    def _finish_frame(self) -> Iterator[Event]:
        """What the flags of a frame say, once its data has come."""
        stream, flags, self._flags = self._owner, self._flags, 0
        state = self._streams.get(stream)
        if state is None:
            return
        if flags & RST:
            del self._streams[stream]
            yield Reset(stream)
        elif flags & FIN:
            if state.finished:
                raise Broken(f"stream {stream} is finished twice")
            state.finished = True
            self._drop_done(stream, state)
            yield Finished(stream)

    def _drop_done(self, stream: int, state: _Stream) -> bool:
        done = state.finished and state.closed
        if done:
            del self._streams[stream]
        return done

    def _send(self, kind: Type, flags: int, stream: int, length: int, data: bytes = b"") -> None:
        self.output += frame(kind, flags, stream, length, data)

    def _end(self, code: int | None, reason: str) -> Ended:
        self._over = True
        self._streams.clear()
        if code is not None:
            self._send(Type.GO_AWAY, 0, 0, code)
        return Ended(reason, bytes(self._rest))
