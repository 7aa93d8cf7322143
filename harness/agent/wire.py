"""The one wire format, on every link.

::

    SYNC (16 bytes) | kind u8 | body, stuffed
    body = request u32 | length u32 | payload | crc32 u32 over kind, request, length, payload    (big endian)

Wherever SYNC occurs inside the body, a 00 byte is put after it. A kind is 1 to 127. So SYNC followed by a
kind is a frame's start wherever it stands, and a receiver that meets one inside a torn frame goes on with it.
SYNC begins with a byte that is not in it again, hence it cannot overlap itself. It is long because a search
skips up to its length at a time: both ends look at every byte of every frame for it.

Much data that the receiver compares, on a link that loses nothing, goes without these passes over it::

    SYNC (16 bytes) | BULK u8 | request u32 | length u32 | crc32 u32 over these three | payload, as it is
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

SYNC = b"\xf7vsock-harness\r\n"
WIRE_VERSION = 3
MAX_PAYLOAD = 1 << 20
"""The longest payload of a frame, in bytes."""

_STUFFED = SYNC + b"\0"
HEADER = struct.Struct(">II")
CRC = struct.Struct(">I")
LAST_KIND = 0x7F
SHORTEST = HEADER.size + CRC.size
_SMALL = 1024
"""Up to here a copy of a payload is cheaper than a part of its own."""


class Kind(IntEnum):
    """What a frame is. Client to agent below 64, agent to client from 64; DATA and BULK go both ways."""

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
    BULK = 33
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


class Bulk(NamedTuple):
    """A BULK to be sent: up to `MAX_PAYLOAD` bytes of `payload`, which nobody copies, searches or sums up."""

    request: int
    payload: memoryview


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


def parts(frame: Frame | Bulk) -> list[bytes | memoryview]:
    """As `encode`, in parts to be written one after the other: a large payload is not copied.

    :raise ValueError: as `encode`.
    """
    if isinstance(frame, Bulk):
        opening = bytes((Kind.BULK,)) + HEADER.pack(frame.request, len(frame.payload))
        return [SYNC + opening + CRC.pack(zlib.crc32(opening)), frame.payload]
    if not 1 <= frame.kind <= LAST_KIND or frame.kind == Kind.BULK or not 0 <= frame.request < 1 << 32:
        raise ValueError(f"no such frame: kind {frame.kind}, request {frame.request}")
    payload = frame.payload
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes, at most {MAX_PAYLOAD} are allowed")
    kind = bytes((frame.kind,))
    header = HEADER.pack(frame.request, len(payload))
    tail = CRC.pack(zlib.crc32(payload, zlib.crc32(kind + header)))
    if len(payload) < _SMALL:
        return [b"".join((SYNC, kind, _stuffed(b"".join((header, payload, tail)))))]
    rest = len(SYNC) - 1
    if SYNC in payload or SYNC in header + payload[:rest] or SYNC in payload[-rest:] + tail:
        return [SYNC + kind, _stuffed(b"".join((header, payload, tail)))]
    return [SYNC + kind + header, payload, tail]


def _stuffed(body: bytes) -> bytes:
    return body.replace(SYNC, _STUFFED)
