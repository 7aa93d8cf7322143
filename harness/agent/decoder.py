"""Frames out of the bytes of a link: the receiving end of `wire`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from .wire import CRC, HEADER, LAST_KIND, MAX_PAYLOAD, SHORTEST, SYNC, BadFrame, Frame, Kind

ROOM = 65536
"""What a `Decoder` takes in at once, until a frame is longer."""
_LENT = 65536
"""From here on a payload is offered in place: a copy costs a pass over it, which an emulated CPU feels."""

_STRETCH = 1 << 20
"""What a `Decoder` takes in at once of a BULK's payload."""

Taker = Callable[[int, int, memoryview], bool]
"""Given kind, request and payload, takes the payload now and returns True, or wants the frame: False.

Of a BULK it is given piece after piece. When it does not want them, the frame comes once, without payload."""


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
    when it returns. A frame that it took is not among those found. A BULK's pieces are offered as they come.

    Where clients come and go on one channel, what one leaves unfinished must not swallow the next one's
    frames: without `bulk` a BULK is a frame like any other, and has the wrong checksum for that.
    """

    def __init__(
        self,
        max_payload: int = MAX_PAYLOAD,
        room: int = ROOM,
        take: Taker = lambda *_: False,
        *,
        bulk: bool = True,
    ) -> None:
        self._max_payload = max_payload
        self._offer = take
        self._plain = Kind.BULK if bulk else None  # the kind whose payload comes as it is
        self._raw = bytearray(room)
        self._start = self._end = 0  # what of `_raw` is of the link, and not taken yet
        self._body = bytearray()  # of the present frame, up to the last SYNC in it, without the stuffing
        self._kind = 0  # 0: between frames
        self._total = 0  # length of the whole body; 0 until its header is here
        self._clear = 0  # in so many bytes from `_start` on no SYNC begins
        self._used = 0  # bytes of the link that the present frame has taken
        self._lost = False  # a bad frame was reported, and no good start was seen since
        self._bulk = 0  # the request of the BULK whose payload comes now
        self._left = 0  # bytes of that payload that have not come
        self._spilt = False  # some of it was not wanted

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end in the middle of a frame."""
        return self._kind != 0 or self._start != self._end

    @property
    def lacks(self) -> int:
        """Bytes that the present frame lacks, at least 1; 0 between frames and in a header."""
        here = self._end - self._start
        if self._left:
            return self._left
        return max(self._total - len(self._body) - here, 1) if self._total else 0

    def room(self) -> memoryview:
        """Where to read to next: at least a byte, and within a frame no more than what that lacks."""
        here = self._end - self._start
        wanted = here + self.lacks if self._total else len(self._raw)
        if self._left:
            wanted = min(self._left, _STRETCH)
        if self._start + wanted > len(self._raw):
            old = memoryview(self._raw)[self._start : self._end]
            if wanted > len(self._raw):
                self._raw = bytearray(wanted)
            memoryview(self._raw)[:here] = old
            self._start, self._end = 0, here
        return memoryview(self._raw)[self._end : self._start + wanted]

    def filled(self, count: int) -> Iterator[Frame | BadFrame]:
        """Take the first `count` bytes of `room`; yield what is complete, in order.

        All of it is to be drawn before the next `room`. Never raises for what the bytes hold.
        """
        self._end += count
        found: list[Frame | BadFrame] = []
        more = True
        while more:
            more = self._advance(found)
            yield from found
            found.clear()
        if self._start == self._end:
            self._start = self._end = 0

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """All of `filled`, with a copy of `data`."""
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
        if self._kind == self._plain:
            return self._pour(found) if self._left else self._open(found)
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
        if not 1 <= kind <= LAST_KIND:
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
            end = min(self._end, start + HEADER.size + len(SYNC) - 1)
            at = raw.find(SYNC, start, end)
            if at >= 0:
                return self._meet(at, found)
            if end - start - _sync_started(raw, start, end) < HEADER.size:
                return False
        _, length = HEADER.unpack_from(body) if body else HEADER.unpack_from(raw, start)
        if length <= self._max_payload:
            self._total = SHORTEST + length
            return True
        if not body:
            self._pass(HEADER.size)
        self._give_up("length", found)
        return True

    def _open(self, found: list[Frame | BadFrame]) -> bool:
        """Read a BULK's header, which is too short for a SYNC to be in it."""
        raw, start = self._raw, self._start
        if self._end - start < SHORTEST:
            return False
        opening = raw[start : start + HEADER.size]
        request, length = HEADER.unpack(opening)
        if (
            zlib.crc32(opening, zlib.crc32(bytes((self._kind,))))
            != CRC.unpack_from(raw, start + len(opening))[0]
        ):
            self._give_up("crc", found)  # a frame may begin in what was taken for the header
            return True
        self._pass(SHORTEST)
        if length > self._max_payload:
            self._give_up("length", found)
            return True
        self._bulk, self._left, self._spilt = request, length, False
        if not length:
            self._leave()
        return True

    def _pour(self, found: list[Frame | BadFrame]) -> bool:
        """Offer what has come of a BULK's payload."""
        start = self._start
        count = min(self._left, self._end - start)
        if not count:
            return False
        self._pass(count)
        self._left -= count
        if not self._left:
            self._leave()
        with memoryview(self._raw) as view:
            self._spilt |= not self._offer(Kind.BULK, self._bulk, view[start : start + count])
        if self._spilt and not self._left:
            found.append(Frame(Kind.BULK, self._bulk))
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
        last = self._total - CRC.size
        crc = zlib.crc32(view[:last], zlib.crc32(bytes((self._kind,))))
        if crc == CRC.unpack_from(view, last)[0]:
            request, length = HEADER.unpack_from(view)
            payload = view[HEADER.size : last]
            if length < _LENT or not self._offer(self._kind, request, payload):
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
