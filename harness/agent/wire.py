"""The one wire format, on every link.

::

    SYNC (16 bytes) | kind u8 | body, stuffed
    body = request u32 | length u32 | payload | crc32 u32 over kind, request, length, payload    (big endian)

Wherever SYNC occurs inside the body, a 00 byte is put after it. A kind is 1 to 127. So SYNC followed by a
kind is a frame's start wherever it stands, and a receiver that meets one inside a torn frame goes on with it.
SYNC begins with a byte that is not in it again, hence it cannot overlap itself. It is long because a search
skips up to its length at a time: both ends look at every byte of every frame for it.
"""

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

SYNC = b"\xf7vsock-harness\r\n"
WIRE_VERSION = 2
MAX_PAYLOAD = 1 << 20
"""The longest payload of a frame, in bytes."""
ROOM = 65536
"""What a `Decoder` takes in at once, until a frame is longer."""

_STUFFED = SYNC + b"\0"
_HEADER = struct.Struct(">II")
_CRC = struct.Struct(">I")
_LAST_KIND = 0x7F
_SHORTEST = _HEADER.size + _CRC.size
_SMALL = 1024
"""Up to here a copy of a payload is cheaper than a part of its own."""
_LENT = 65536
"""From here on a payload is offered in place: a copy costs a pass over it, which an emulated CPU feels."""

Taker = Callable[[int, int, memoryview], bool]
"""Given kind, request and payload, takes the payload now and returns True, or wants the frame: False."""


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
    DIAL = 16
    LISTEN = 17
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
    return b"".join(parts(frame))


def parts(frame: Frame) -> list[bytes]:
    """As `encode`, in parts to be written one after the other: a large payload is not copied.

    :raise ValueError: as `encode`.
    """
    if not 1 <= frame.kind <= _LAST_KIND or not 0 <= frame.request < 1 << 32:
        raise ValueError(f"no such frame: kind {frame.kind}, request {frame.request}")
    payload = frame.payload
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes, at most {MAX_PAYLOAD} are allowed")
    kind = bytes((frame.kind,))
    header = _HEADER.pack(frame.request, len(payload))
    tail = _CRC.pack(zlib.crc32(payload, zlib.crc32(kind + header)))
    if len(payload) < _SMALL:
        return [b"".join((SYNC, kind, _stuffed(b"".join((header, payload, tail)))))]
    rest = len(SYNC) - 1
    if SYNC in payload or SYNC in header + payload[:rest] or SYNC in payload[-rest:] + tail:
        return [SYNC + kind, _stuffed(b"".join((header, payload, tail)))]
    return [SYNC + kind + header, payload, tail]


def _stuffed(body: bytes) -> bytes:
    return body.replace(SYNC, _STUFFED)


def _sync_started(data: bytearray, start: int, end: int) -> int:
    """How many of the last bytes of ``data[start:end]`` may be the beginning of a SYNC."""
    at = data.rfind(SYNC[:1], max(start, end - len(SYNC) + 1), end)
    return end - at if at >= 0 and SYNC.startswith(data[at:end]) else 0


class Decoder:
    """Makes frames of what was read, however it was cut, and finds back after anything else.

    Read into `room`, then tell `filled`; or `feed` what was read elsewhere. It holds at most one frame, that
    is `max_payload` bytes, and what one read brought. Its buffer is used again and again: fresh memory costs
    a page fault for every 4 KiB, which in an emulated guest is more than all else that is done with them.

    `take` is offered each large payload where it lies, in the order of the frames; the memory is used again
    when it returns. A frame that it took is not among those found.
    """

    def __init__(
        self, max_payload: int = MAX_PAYLOAD, room: int = ROOM, take: Taker = lambda *_: False
    ) -> None:
        self._max_payload = max_payload
        self._offer = take
        self._raw = bytearray(room)
        self._start = self._end = 0  # what of `_raw` is of the link, and not taken yet
        self._body = bytearray()  # of the present frame, up to the last SYNC in it, without the stuffing
        self._kind = 0  # 0: between frames
        self._total = 0  # length of the whole body; 0 until its header is here
        self._clear = 0  # in so many bytes from `_start` on no SYNC begins
        self._used = 0  # bytes of the link that the present frame has taken
        self._lost = False  # a bad frame was reported, and no good start was seen since

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end in the middle of a frame."""
        return self._kind != 0 or self._start != self._end

    @property
    def lacks(self) -> int:
        """Bytes that the present frame lacks, at least 1; 0 between frames and in a header."""
        here = self._end - self._start
        return max(self._total - len(self._body) - here, 1) if self._total else 0

    def room(self) -> memoryview:
        """Where to read to next: at least a byte, and within a frame no more than what that lacks."""
        here = self._end - self._start
        wanted = here + self.lacks if self._total else len(self._raw)
        if self._start + wanted > len(self._raw):
            old = memoryview(self._raw)[self._start : self._end]
            if wanted > len(self._raw):
                self._raw = bytearray(wanted)
            memoryview(self._raw)[:here] = old
            self._start, self._end = 0, here
        return memoryview(self._raw)[self._end : self._start + wanted]

    def filled(self, count: int) -> list[Frame | BadFrame]:
        """Take the first `count` bytes of `room`; return what is complete, in order.

        Never raises for what they hold.
        """
        self._end += count
        found: list[Frame | BadFrame] = []
        while self._advance(found):
            pass
        if self._start == self._end:
            self._start = self._end = 0
        return found

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """`filled`, with a copy of `data`."""
        found: list[Frame | BadFrame] = []
        left = memoryview(data)
        while left:
            room = self.room()
            count = min(len(left), len(room))
            room[:count] = left[:count]
            found += self.filled(count)
            left = left[count:]
        return found

    def _advance(self, found: list[Frame | BadFrame]) -> bool:
        """One thing of those to do next; False if it needs more bytes."""
        if not self._kind:
            return self._hunt(found)
        return self._take(found) if self._total else self._measure(found)

    def _hunt(self, found: list[Frame | BadFrame]) -> bool:
        """Drop bytes up to a frame's start, and enter that frame."""
        raw, end = self._raw, self._end
        at = raw.find(SYNC, self._start, end)
        if at < 0:
            self._drop(end - _sync_started(raw, self._start, end), found)
            return False
        self._drop(at, found)
        if end - at <= len(SYNC):
            return False
        kind = raw[at + len(SYNC)]
        if not 1 <= kind <= _LAST_KIND:
            self._drop(at + len(SYNC), found)
            return True
        self._kind, self._total, self._used = kind, 0, 0
        self._lost = False
        self._pass(len(SYNC) + 1)
        return True

    def _measure(self, found: list[Frame | BadFrame]) -> bool:
        """Read the header, as soon as it is certain that no SYNC begins in it."""
        raw, start, body = self._raw, self._start, self._body
        if not body:
            end = min(self._end, start + _HEADER.size + len(SYNC) - 1)
            at = raw.find(SYNC, start, end)
            if at >= 0:
                return self._meet(at, found)
            if end - start - _sync_started(raw, start, end) < _HEADER.size:
                return False
        _, length = _HEADER.unpack_from(body) if body else _HEADER.unpack_from(raw, start)
        if length <= self._max_payload:
            self._total = _SHORTEST + length
            return True
        if not body:
            self._pass(_HEADER.size)
        self._give_up("length", found)
        return True

    def _take(self, found: list[Frame | BadFrame]) -> bool:
        """Look for the frame's end, and for a SYNC before it."""
        raw, start = self._raw, self._start
        end = start + self._total - len(self._body)
        at = raw.find(SYNC, start + self._clear, min(end, self._end))
        if at >= 0:
            self._clear = at - start
            return self._meet(at, found)
        if self._end < end:
            self._clear = self._end - start - _sync_started(raw, start, self._end)
            return False
        self._check(end, found)
        return True

    def _meet(self, at: int, found: list[Frame | BadFrame]) -> bool:
        """At a SYNC inside the frame: is it stuffed, or the start of a new frame?"""
        raw, start, after = self._raw, self._start, at + len(SYNC)
        if self._end <= after:
            return False
        if raw[after] == 0:
            self._body += memoryview(raw)[start:after]
            self._pass(after + 1 - start)
        else:
            self._pass(at - start)
            self._give_up("torn", found)
        return True

    def _check(self, end: int, found: list[Frame | BadFrame]) -> None:
        """The frame goes up to `end`: is it good?"""
        raw, start = self._raw, self._start
        view = memoryview(raw)[start:end]
        if self._body:
            self._body += view
            view = memoryview(self._body)
        last = self._total - _CRC.size
        crc = zlib.crc32(view[:last], zlib.crc32(bytes((self._kind,))))
        if crc == _CRC.unpack_from(view, last)[0]:
            request, length = _HEADER.unpack_from(view)
            payload = view[_HEADER.size : last]
            # those found are not done yet, and come before this one
            if found or length < _LENT or not self._offer(self._kind, request, payload):
                found.append(Frame(self._kind, request, bytes(payload)))
            self._pass(end - start)
            self._leave()
        else:  # perhaps torn within its last bytes: they may already be the next one's SYNC
            self._pass(end - start - _sync_started(raw, start, end))
            self._give_up("crc", found)

    def _pass(self, count: int) -> None:
        """Let go of bytes that the present frame has taken."""
        self._start += count
        self._used += count
        self._clear = 0

    def _drop(self, upto: int, found: list[Frame | BadFrame]) -> None:
        count, self._start = upto - self._start, upto
        if count and not self._lost:
            found.append(BadFrame("garbage", count))
            self._lost = True

    def _leave(self) -> None:
        self._kind = self._total = 0
        self._body = bytearray()

    def _give_up(self, reason: str, found: list[Frame | BadFrame]) -> None:
        found.append(BadFrame(reason, self._used))
        self._lost = True
        self._leave()
