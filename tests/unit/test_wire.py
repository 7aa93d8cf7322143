"""The wire format and the seeded data: every cut, every tear, every corruption."""

from __future__ import annotations

import hashlib
import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.agent.decoder import Decoder
from harness.agent.seeded import LAP, Seeded, stream
from harness.agent.wire import MAX_PAYLOAD, SYNC, BadFrame, Frame, Kind, encode

GOOD = Frame(Kind.ECHO, 7, b"good")

# Bytes of which SYNC is made come often, so that whole and half SYNCs do.
noise = st.lists(
    st.sampled_from([SYNC, SYNC[:1], SYNC[:2], SYNC[:8], SYNC[:-1], SYNC[1:], SYNC[8:], b"\0", b"\1", b"any"])
).map(b"".join)
frames = st.builds(
    Frame,
    st.integers(1, 127).filter(lambda kind: kind != Kind.BULK),
    st.integers(0, 2**32 - 1) | st.just(int.from_bytes(SYNC[:4], "big")) | st.just(SYNC[0]),
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
        b"\xf7vsock-harness\r\n\x02" + b"\x01\x02\x03\x04" + b"\x00\x00\x00\x02" + b"hi" + b"\x12\xd1\x84X"
    )


@given(
    st.lists(noise | frames.map(encode), max_size=6).map(b"".join), st.lists(st.integers(0, 1000), max_size=5)
)
def test_what_is_found_does_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    whole, cut = decode(data), decode(data, *cuts)
    assert [one for one in whole if isinstance(one, Frame)] == [one for one in cut if isinstance(one, Frame)]
    assert [type(one) for one in whole] == [type(one) for one in cut]


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


@pytest.mark.parametrize("length", [3, 15, 16, 17, 19, 24, 25, 52, -4, -1])
def test_torn_in_sync_header_payload_and_checksum(length: int) -> None:
    whole = encode(Frame(Kind.ECHO, 1, b"x" * 64))
    bad, good = decode(whole[:length] + encode(GOOD))
    assert isinstance(bad, BadFrame)
    assert bad.skipped == len(whole[:length])
    assert good == GOOD


@given(noise.filter(lambda data: SYNC not in data), frames)
def test_garbage_without_sync_costs_nothing_else(garbage: bytes, good: Frame) -> None:
    found = decode(garbage + encode(good))
    assert found[-1] == good
    assert found[:-1] == [BadFrame("garbage", len(garbage))] * bool(garbage)


@given(noise | st.binary(), st.lists(st.integers(0, 1000), max_size=3))
@example(SYNC + SYNC[:3], [])
@example(SYNC + SYNC[:15], [])
@example(SYNC + b"\1" + bytes(7) + SYNC[:15], [])
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
    damaged[len(SYNC) + 11] ^= 1
    assert decode(bytes(damaged) + encode(GOOD)) == [BadFrame("crc", len(damaged)), GOOD]


@pytest.mark.parametrize("byte", range(16, 32))
def test_one_flipped_bit_is_never_a_frame(byte: int) -> None:
    damaged = bytearray(encode(Frame(Kind.ECHO, 1, b"abc")))
    damaged[byte] ^= 4
    assert not any(isinstance(one, Frame) for one in decode(bytes(damaged)))


def test_over_long_length_is_refused_at_once() -> None:
    head = SYNC + b"\2" + (1).to_bytes(4, "big") + (MAX_PAYLOAD + 1).to_bytes(4, "big") + b"...."
    assert decode(head) == [BadFrame("length", len(SYNC) + 1 + 8)]
    assert decode(head + b"x" * 100 + encode(GOOD)) == [BadFrame("length", len(SYNC) + 1 + 8), GOOD]


def test_the_longest_payload() -> None:
    frame = Frame(Kind.DATA, 1, SYNC * (MAX_PAYLOAD // len(SYNC)))
    assert decode(encode(frame)) == [frame]


def test_checksum_that_ends_a_sync() -> None:
    """The stuffing byte after it must not be left to the next frame."""
    frame = _ending_in_sync()
    assert encode(frame).endswith(SYNC + b"\0")
    assert decode(encode(frame) + encode(GOOD)) == [frame, GOOD]
    for at in range(len(encode(frame))):
        assert decode(encode(frame) + encode(GOOD), at) == [frame, GOOD]


@pytest.mark.parametrize("at", [-15, -1, 0, 1, 30, 48, 49, 63, 64])
def test_sync_across_the_parts_of_a_body(at: int) -> None:
    """In, or partly in, the header (its length's last byte is F7), the payload, the checksum."""
    payload = bytearray(0xF7)
    if at < 0:
        payload[: len(SYNC) - 1] = SYNC[1:]
    else:
        payload[at : at + len(SYNC)] = SYNC
    frame = Frame(Kind.ECHO, 1, bytes(payload))
    assert len(encode(frame)) == len(SYNC) + 1 + 12 + len(payload) + 1
    for cut in range(90):
        assert decode(encode(frame) + encode(GOOD), cut) == [frame, GOOD]


def _ending_in_sync() -> Frame:
    """A frame whose payload's end and checksum are a SYNC: four bytes solve it (the CRC is linear)."""
    rest, wanted = SYNC[:-4], int.from_bytes(SYNC[-4:], "big")

    def crc(payload: int) -> int:
        data = payload.to_bytes(4, "big") + rest
        return zlib.crc32(bytes((Kind.ECHO,)) + (9).to_bytes(4, "big") + len(data).to_bytes(4, "big") + data)

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
    return Frame(Kind.ECHO, 9, payload.to_bytes(4, "big") + rest)


@given(
    st.lists(noise | frames.map(encode), max_size=6).map(b"".join), st.integers(1, 40), st.integers(64, 100)
)
def test_reading_into_a_small_room(data: bytes, most: int, size: int) -> None:
    decoder = Decoder(room=size)
    found: list[Frame | BadFrame] = []
    left = data
    while left:
        room = decoder.room()
        count = min(len(room), len(left), most)
        assert count > 0
        room[:count] = left[:count]
        found += decoder.filled(count)
        left = left[count:]
    assert [one for one in found if isinstance(one, Frame)] == [
        one for one in decode(data) if isinstance(one, Frame)
    ]


def test_room_within_a_long_frame_is_what_it_lacks() -> None:
    decoder = Decoder()
    data = encode(Frame(Kind.DATA, 1, bytes(300_000)))
    assert decoder.feed(data[:1000]) == []
    assert len(decoder.room()) == len(data) - 1000
    assert len(decoder.feed(data[1000:])) == 1
    assert not decoder.inside


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


@given(st.integers(0, 2**64), st.integers(0, 500), st.integers(1, 200))
@settings(max_examples=50)
def test_seeded_bytes_do_not_depend_on_the_pieces(seed: int, total: int, chunk: int) -> None:
    pieces = list(stream(seed, total, chunk))
    assert b"".join(pieces) == b"".join(stream(seed, 1000, 512))[:total]
    assert sum(map(len, pieces)) == total
    assert all(len(piece) == chunk for piece in pieces[:-1])


@pytest.mark.parametrize("chunk", [4096, LAP - 1, LAP, LAP + 1, 3 * LAP, 1 << 20])
def test_seeded_bytes_go_round_after_a_lap(chunk: int) -> None:
    total = 5 * LAP + 7
    lap = b"".join(stream(3, LAP, 1000))
    data = b"".join(stream(3, total, chunk))
    assert data == (lap * 6)[:total]
    assert Seeded(3, total).piece(2 * LAP - 5, 10) == lap[-5:] + lap[:5]
    assert Seeded(3, total).piece(total - 3, 10) == data[-3:]
    assert Seeded(3, total).piece(total, 10) == b""


@pytest.mark.parametrize(("start", "length"), [(0, 10), (0, LAP + 9), (LAP - 3, 3 * LAP), (4 * LAP, LAP + 7)])
def test_what_seeded_data_holds(start: int, length: int) -> None:
    piece = Seeded(3, 5 * LAP + 7).piece(start, length)
    assert Seeded(3, 5 * LAP + 7).holds(start, piece)
    assert not Seeded(3, 5 * LAP + 7).holds(start + 1, piece)
    assert not Seeded(3, 5 * LAP + 7).holds(start, piece[:-1] + bytes((piece[-1] ^ 1,)))
    assert not Seeded(3, start + length - 1).holds(start, piece)
    assert not Seeded(4, 5 * LAP + 7).holds(start, piece)


@pytest.mark.parametrize("piece", [4096, 65536, 1 << 18])
def test_a_piece_lost_or_doubled_is_seen_in_what_follows(piece: int) -> None:
    data = Seeded(1, 64 << 20)
    assert all(data.piece(n * piece, 64) != data.piece(0, 64) for n in range(1, (64 << 20) // piece))


def test_seeded_bytes_are_the_same_on_every_python() -> None:
    data = b"".join(stream(1, LAP, 4096))
    assert hashlib.sha256(data).hexdigest() == (
        "174981ff090743a075e947d6617c6da2f129f3fbcdfaf71ce45ea69c09f8eb8f"
    )
    assert data == Random(1).randbytes(LAP + 3)[:LAP]


def test_seeded_pieces_are_of_some_size() -> None:
    with pytest.raises(ValueError, match="positive"):
        next(stream(1, 10, 0))


def test_a_large_payload_can_be_taken_in_place() -> None:
    taken: list[tuple[int, int, bytes]] = []

    def take(kind: int, request: int, payload: memoryview) -> bool:
        if request == 9:
            return False
        taken.append((kind, request, bytes(payload)))
        return True

    large = bytes(range(256)) * 400
    decoder = Decoder(take=take)
    assert decoder.feed(encode(Frame(Kind.DATA, 1, large)) + encode(Frame(Kind.DATA, 2, large))) == []
    assert taken == [(Kind.DATA, 1, large), (Kind.DATA, 2, large)]
    assert decoder.feed(encode(Frame(Kind.DATA, 9, large))) == [Frame(Kind.DATA, 9, large)]


def test_what_is_taken_in_place_never_overtakes_another_frame() -> None:
    seen: list[int] = []

    def take(_kind: int, request: int, _payload: memoryview) -> bool:
        seen.append(request)
        return True

    data = encode(Frame(Kind.ECHO, 1, b"first")) + encode(Frame(Kind.DATA, 2, bytes(70000)))
    data += encode(Frame(Kind.ECHO, 3, b"last"))
    decoder = Decoder(room=len(data), take=take)
    decoder.room()[: len(data)] = data
    for frame in decoder.filled(len(data)):
        assert isinstance(frame, Frame)
        seen.append(frame.request)
    assert seen == [1, 2, 3]
