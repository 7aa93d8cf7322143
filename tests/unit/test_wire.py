"""The wire format and the seeded data: every cut, every tear, every corruption."""

from __future__ import annotations

import hashlib
import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.agent.seeded import stream
from harness.agent.wire import MAX_PAYLOAD, SYNC, BadFrame, Decoder, Frame, Kind, encode

GOOD = Frame(Kind.ECHO, 7, b"good")

# Bytes of which SYNC is made come often, so that whole and half SYNCs do.
noise = st.lists(st.sampled_from([SYNC, SYNC[:1], SYNC[:2], SYNC[:3], b"\0", b"\1", b"v", b"any"])).map(
    b"".join
)
frames = st.builds(
    Frame,
    st.integers(1, 127),
    st.integers(0, 2**32 - 1) | st.just(int.from_bytes(SYNC, "big")),
    noise | st.binary(max_size=80),
)


def decode(data: bytes, *cuts: int) -> list[Frame | BadFrame]:
    decoder = Decoder()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[Frame | BadFrame] = []
    for start, end in pairwise(places):
        found += decoder.feed(data[start:end])
    return found


def test_bytes_on_the_link() -> None:
    assert encode(Frame(Kind.ECHO, 0x01020304, b"hi")) == (
        b"\xf7vsk\x02" + b"\x01\x02\x03\x04" + b"\x00\x00\x00\x02" + b"hi" + b"\x12\xd1\x84X"
    )


@given(st.lists(frames, max_size=4), st.lists(st.integers(0, 1000), max_size=5))
def test_frames_come_back_however_cut(sent: list[Frame], cuts: list[int]) -> None:
    assert decode(b"".join(map(encode, sent)), *cuts) == sent


@given(frames)
def test_sync_occurs_only_at_the_start_or_stuffed(frame: Frame) -> None:
    _, *rest = encode(frame).split(SYNC)
    assert rest[0][0] == frame.kind
    assert all(piece[:1] == b"\0" for piece in rest[1:])


@given(frames, st.integers(0, 1000), frames)
def test_a_torn_frame_costs_only_itself(torn: Frame, at: int, good: Frame) -> None:
    whole = encode(torn)
    found = decode(whole[: at % len(whole)] + encode(good))
    assert found[-1] == good
    assert [type(one) for one in found[:-1]] == [BadFrame] * bool(at % len(whole))


@pytest.mark.parametrize("length", [3, 4, 5, 7, 12, 13, 40, -4, -1])
def test_torn_in_sync_header_payload_and_checksum(length: int) -> None:
    whole = encode(Frame(Kind.ECHO, 1, b"x" * 64))
    bad, good = decode(whole[:length] + encode(GOOD))
    assert isinstance(bad, BadFrame)
    assert bad.skipped == len(whole[:length])
    assert good == GOOD


@given(noise.filter(lambda data: not any(data[i : i + 4] == SYNC for i in range(len(data)))), frames)
def test_garbage_without_sync_costs_nothing_else(garbage: bytes, good: Frame) -> None:
    found = decode(garbage + encode(good))
    assert found[-1] == good
    assert found[:-1] == [BadFrame("garbage", len(garbage))] * bool(garbage)


@given(noise | st.binary(), st.lists(st.integers(0, 1000), max_size=3))
@example(SYNC + b"\xf7vs", [])
def test_anything_then_two_good_frames(garbage: bytes, cuts: list[int]) -> None:
    found = decode(garbage + encode(GOOD) + encode(GOOD), *cuts)
    assert found[-2:] == [GOOD, GOOD]


def test_two_writers_interleaved() -> None:
    one, other = encode(Frame(Kind.ECHO, 1, b"1" * 30)), encode(Frame(Kind.ECHO, 2, b"2" * 30))
    mixed = b"".join(one[i : i + 10] + other[i : i + 10] for i in range(0, len(one), 10))
    found = decode(mixed + encode(GOOD))
    assert found[-1] == GOOD
    assert all(isinstance(bad, BadFrame) for bad in found[:-1])


def test_wrong_checksum() -> None:
    damaged = bytearray(encode(Frame(Kind.ECHO, 1, b"payload")))
    damaged[15] ^= 1
    assert decode(bytes(damaged) + encode(GOOD)) == [BadFrame("crc", len(damaged)), GOOD]


@pytest.mark.parametrize("byte", range(4, 20))
def test_one_flipped_bit_is_never_a_frame(byte: int) -> None:
    damaged = bytearray(encode(Frame(Kind.ECHO, 1, b"abc")))
    damaged[byte] ^= 4
    assert not any(isinstance(one, Frame) for one in decode(bytes(damaged)))


def test_over_long_length_is_refused_at_once() -> None:
    head = SYNC + b"\2" + (1).to_bytes(4, "big") + (MAX_PAYLOAD + 1).to_bytes(4, "big") + b"...."
    assert decode(head) == [BadFrame("length", 17)]
    assert decode(head + b"x" * 100 + encode(GOOD)) == [BadFrame("length", 17), GOOD]


def test_the_longest_payload() -> None:
    frame = Frame(Kind.DATA, 1, SYNC * (MAX_PAYLOAD // 4))
    assert decode(encode(frame)) == [frame]


def test_checksum_that_is_a_sync_itself() -> None:
    """The stuffing byte after it must not be left to the next frame."""
    frame = _with_crc(int.from_bytes(SYNC, "big"))
    assert encode(frame).endswith(SYNC + b"\0")
    assert decode(encode(frame) + encode(GOOD)) == [frame, GOOD]


def _with_crc(wanted: int) -> Frame:
    """A frame with the given CRC-32: four payload bytes solve it (the CRC is linear in them)."""

    def crc(payload: int) -> int:
        data = payload.to_bytes(4, "big")
        return zlib.crc32(bytes((Kind.ECHO,)) + (9).to_bytes(4, "big") + (4).to_bytes(4, "big") + data)

    base = crc(0)
    rows: list[tuple[int, int]] = []  # (effect on the CRC, payload bits), reduced
    for bit in range(32):
        effect, payload = crc(1 << bit) ^ base, 1 << bit
        for other_effect, other_payload in rows:
            if effect ^ other_effect < effect:
                effect, payload = effect ^ other_effect, payload ^ other_payload
        rows.append((effect, payload))
        rows.sort(reverse=True)
    left, payload = wanted ^ base, 0
    for effect, bits in rows:
        if left ^ effect < left:
            left, payload = left ^ effect, payload ^ bits
    assert left == 0
    return Frame(Kind.ECHO, 9, payload.to_bytes(4, "big"))


def test_garbage_is_reported_once_until_a_good_start() -> None:
    decoder = Decoder()
    assert decoder.feed(b"abc") == [BadFrame("garbage", 3)]
    assert decoder.feed(b"def" * 1000) == []
    assert decoder.feed(encode(GOOD)) == [GOOD]
    assert decoder.feed(b"ghi") == [BadFrame("garbage", 3)]


def test_holds_no_more_than_a_frame() -> None:
    decoder = Decoder(max_payload=100)
    for _ in range(100):
        decoder.feed(b"no frame" * 1000)
    assert not decoder.inside


@pytest.mark.parametrize(
    "frame",
    [Frame(0, 1), Frame(128, 1), Frame(1, -1), Frame(1, 1 << 32), Frame(1, 1, bytes(MAX_PAYLOAD + 1))],
)
def test_what_no_frame_can_hold(frame: Frame) -> None:
    with pytest.raises(ValueError):
        encode(frame)


@given(st.integers(0, 2**64), st.integers(0, 500), st.integers(1, 60).map(lambda n: 4 * n))
@settings(max_examples=50)
def test_seeded_bytes_do_not_depend_on_the_pieces(seed: int, total: int, chunk: int) -> None:
    pieces = list(stream(seed, total, chunk))
    assert b"".join(pieces) == b"".join(stream(seed, total, 512))
    assert sum(map(len, pieces)) == total
    assert all(len(piece) == chunk for piece in pieces[:-1])


def test_seeded_bytes_are_the_same_on_every_python() -> None:
    data = b"".join(stream(1, 100_000, 4096))
    assert hashlib.sha256(data).hexdigest() == (
        "676d25c9f034afe02e0e6d3ec04abee785b8fead65c27567c86e20c834d72201"
    )
    assert data == Random(1).randbytes(100_000)


def test_seeded_pieces_are_whole_words() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        next(stream(1, 10, 6))
