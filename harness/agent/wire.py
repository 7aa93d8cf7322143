"""The one wire format, on every link.

::

    SYNC (4 bytes) | kind u8 | body, stuffed
    body = request u32 | length u32 | payload | crc32 u32 over kind, request, length, payload    (big endian)

Wherever SYNC occurs inside the body, a 00 byte is put after it. A kind is 1 to 127. So SYNC followed by a
kind is a frame's start wherever it stands, and a receiver that meets one inside a torn frame goes on with it.
SYNC's bytes differ from each other, hence it cannot overlap itself.
"""

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

SYNC = b"\xf7vsk"
WIRE_VERSION = 1
MAX_PAYLOAD = 1 << 20
"""The longest payload of a frame, in bytes."""

_STUFFED = SYNC + b"\0"
_HEADER = struct.Struct(">II")
_CRC = struct.Struct(">I")
_LAST_KIND = 0x7F
_SHORTEST = _HEADER.size + _CRC.size


class Kind(IntEnum):
    """What a frame is. Client to agent below 64, agent to client from 64; DATA goes both ways."""

    HELLO = 1
    ECHO = 2
    ECHO_LATER = 3
    SINK = 4
    SOURCE = 5
    RUN = 6
    STDIN = 7
    SIGNAL = 8
    OPEN_DEVICE = 9
    FACTS = 10
    CLONED = 11
    DATA = 32
    REPLY = 64
    STDOUT = 65
    STDERR = 66
    EXIT = 67
    DONE = 68
    ERROR = 69


class Frame(NamedTuple):
    """One frame. `kind` is a `Kind`, or any other number from 1 to 127 if the sender knows more kinds."""

    kind: int
    request: int
    payload: bytes = b""


class BadFrame(NamedTuple):
    """Bytes that were no frame.

    `reason` is ``garbage`` (no SYNC where a frame should start), ``torn`` (a new frame began inside),
    ``length`` (more than the receiver takes) or ``crc``. `skipped` counts the bytes of the link that were
    dropped up to here; what follows until the next frame's start is dropped without a further report.
    """

    reason: str
    skipped: int


def encode(frame: Frame) -> bytes:
    """The bytes of `frame` on the link.

    :raise ValueError: if the kind, the request id or the payload's length is out of range.
    """
    if not 1 <= frame.kind <= _LAST_KIND or not 0 <= frame.request < 1 << 32:
        raise ValueError(f"no such frame: kind {frame.kind}, request {frame.request}")
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload)} bytes, at most {MAX_PAYLOAD} are allowed")
    kind = bytes((frame.kind,))
    header = _HEADER.pack(frame.request, len(frame.payload))
    crc = zlib.crc32(frame.payload, zlib.crc32(kind + header))
    body = b"".join((header, frame.payload, _CRC.pack(crc)))
    return b"".join((SYNC, kind, body.replace(SYNC, _STUFFED)))


def _sync_started(data: bytearray, end: int) -> int:
    """How many of the last bytes of ``data[:end]`` may be the beginning of a SYNC."""
    for length in range(min(len(SYNC) - 1, end), 0, -1):
        if data[end - length : end] == SYNC[:length]:
            return length
    return 0


class Decoder:
    """Makes frames of what was read, however it was cut, and finds back after anything else.

    It holds at most one frame, that is `max_payload` bytes and what one `feed` brought.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._max_payload = max_payload
        self._raw = bytearray()
        self._body = bytearray()
        self._kind = 0  # 0: between frames
        self._total = 0  # length of the whole body; provisional until its header is here
        self._used = 0  # bytes of the link that the present frame has taken
        self._lost = False  # a bad frame was reported, and no good start was seen since

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end in the middle of a frame."""
        return self._kind != 0 or bool(self._raw)

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """Take what was read, return what is complete, in order. Never raises for what `data` holds."""
        self._raw += data
        found: list[Frame | BadFrame] = []
        while self._advance(found):
            pass
        return found

    def _advance(self, found: list[Frame | BadFrame]) -> bool:
        return self._take(found) if self._kind else self._hunt(found)

    def _hunt(self, found: list[Frame | BadFrame]) -> bool:
        """Drop bytes up to a frame's start, and enter that frame."""
        raw = self._raw
        start = raw.find(SYNC)
        if start < 0:
            self._drop(len(raw) - _sync_started(raw, len(raw)), "garbage", found)
            return False
        self._drop(start, "garbage", found)
        if len(raw) <= len(SYNC):
            return False
        kind = raw[len(SYNC)]
        if not 1 <= kind <= _LAST_KIND:
            self._drop(len(SYNC), "garbage", found)
            return True
        self._kind, self._total, self._used = kind, _SHORTEST, len(SYNC) + 1
        self._lost = False
        del raw[: len(SYNC) + 1]
        self._body.clear()
        return True

    def _take(self, found: list[Frame | BadFrame]) -> bool:
        """Move bytes into the present frame's body; end the frame when it is whole or broken."""
        raw, body = self._raw, self._body
        wanted = self._total - len(body)
        at = raw.find(SYNC, 0, wanted)
        if at >= 0:
            after = at + len(SYNC)
            if len(raw) <= after:
                return False
            if raw[after] != 0:
                self._used += at
                del raw[:at]
                self._give_up("torn", found)
                return True
            self._move(after, 1)
        elif len(body) >= _HEADER.size and len(raw) >= wanted:
            self._move(wanted, 0)
        else:
            end = min(len(raw), wanted)
            end -= _sync_started(raw, end)
            if not end:
                return False
            self._move(end, 0)
        return self._check(found)

    def _check(self, found: list[Frame | BadFrame]) -> bool:
        """Look at the header as soon as it is here, and at the checksum at the end."""
        body = self._body
        if len(body) < _HEADER.size:
            return True
        request, length = _HEADER.unpack_from(body)
        if length > self._max_payload:
            self._give_up("length", found)
            return True
        self._total = _SHORTEST + length
        if len(body) < self._total:
            return True
        end = _HEADER.size + length
        if (
            zlib.crc32(memoryview(body)[:end], zlib.crc32(bytes((self._kind,))))
            == _CRC.unpack_from(body, end)[0]
        ):
            found.append(Frame(self._kind, request, bytes(body[_HEADER.size : end])))
            self._kind = 0
            body.clear()
            return True
        # A frame torn within its last bytes: they may already be the next one's SYNC.
        again = _sync_started(body, len(body))
        self._raw[:0] = body[len(body) - again :]
        self._used -= again
        self._give_up("crc", found)
        return True

    def _move(self, count: int, stuffing: int) -> None:
        self._body += self._raw[:count]
        del self._raw[: count + stuffing]
        self._used += count + stuffing

    def _drop(self, count: int, reason: str, found: list[Frame | BadFrame]) -> None:
        del self._raw[:count]
        if count and not self._lost:
            found.append(BadFrame(reason, count))
            self._lost = True

    def _give_up(self, reason: str, found: list[Frame | BadFrame]) -> None:
        found.append(BadFrame(reason, self._used))
        self._kind = 0
        self._lost = True
        self._body.clear()
