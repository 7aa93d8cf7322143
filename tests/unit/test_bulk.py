"""BULK: much data without a checksum or a search, because the receiver compares it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.bulk import BULK
from harness.agent.decoder import Decoder
from harness.agent.sink import pieces
from harness.agent.wire import MAX_PAYLOAD, SYNC, BadFrame, Bulk, Frame, Kind, encode, parts
from harness.guest import client as guest_client
from harness.guest.client import AgentClient, WrongData
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from tests.unit.agents import unix_agent
from tests.unit.hangs import HANGS

AFTER = Frame(Kind.ECHO, 3, b"after")


def encoded(request: int, payload: bytes) -> bytes:
    return b"".join(parts(Bulk(request, memoryview(payload))))


class Poured(NamedTuple):
    """What came of one BULK."""

    request: int
    payload: bytes


class Seen:
    """What a decoder gives, in order: pieces of a BULK put together, and frames."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.all: list[object] = []
        self._wanted = wanted
        self.decoder = Decoder(take=self._take)

    def _take(self, kind: int, request: int, payload: memoryview) -> bool:
        assert kind == Kind.BULK
        assert len(payload)
        if not self._wanted:
            return False
        if self.all and isinstance(self.all[-1], Poured) and self.all[-1].request == request:
            payload = memoryview(self.all.pop().payload + bytes(payload))  # type: ignore[attr-defined]
        self.all.append(Poured(request, bytes(payload)))
        return True

    def read(self, data: bytes, cut: int) -> list[object]:
        """Feed `data` in pieces of `cut` bytes."""
        for start in range(0, len(data), cut):
            piece = data[start : start + cut]
            while piece:
                room = self.decoder.room()
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                self.all += self.decoder.filled(count)
                piece = piece[count:]
        return self.all


@given(st.binary(min_size=1, max_size=60) | st.just(SYNC + bytes((Kind.ECHO,)) + SYNC), st.integers(1, 90))
def test_its_payload_comes_as_it_is_however_it_is_cut(payload: bytes, cut: int) -> None:
    data = encode(Frame(Kind.ECHO, 1, b"before")) + encoded(2, payload) + encode(AFTER)
    assert Seen().read(data, cut) == [Frame(Kind.ECHO, 1, b"before"), Poured(2, payload), AFTER]


def test_the_longest_one_after_another() -> None:
    payload = bytes(range(256)) * (MAX_PAYLOAD // 256)
    seen = Seen()
    assert seen.read(encoded(1, payload) + encoded(2, payload) + encode(AFTER), 100_000) == [
        Poured(1, payload),
        Poured(2, payload),
        AFTER,
    ]
    assert not seen.decoder.inside


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_one_that_nobody_wants_is_told_once_without_its_payload(cut: int) -> None:
    assert Seen(wanted=False).read(encoded(2, bytes(99)) + encode(AFTER), cut) == [Frame(Kind.BULK, 2), AFTER]


def test_an_empty_one_is_nothing() -> None:
    assert Seen().read(encoded(2, b"") + encode(AFTER), 5) == [AFTER]


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize("at", range(len(SYNC) + 1, len(SYNC) + 13))
def test_a_header_that_is_not_its_checksums_is_no_frame(at: int, cut: int) -> None:
    wrong = bytearray(encoded(2, b"payload"))
    wrong[at] ^= 1
    seen = Seen().read(bytes(wrong) + encode(AFTER), cut)
    assert seen == [BadFrame("crc", len(SYNC) + 1), AFTER]


def test_a_frame_in_place_of_its_header_is_found() -> None:
    assert Seen().read(encoded(2, b"payload")[: len(SYNC) + 3] + encode(AFTER), 1) == [
        BadFrame("crc", len(SYNC) + 1),
        AFTER,
    ]


def test_more_than_a_receiver_takes() -> None:
    decoder = Decoder(max_payload=10)
    assert decoder.feed(encoded(2, bytes(11)) + encode(AFTER)) == [BadFrame("length", len(SYNC) + 13), AFTER]


def test_on_a_channel_of_many_clients_it_swallows_nobodys_frames() -> None:
    decoder = Decoder(bulk=False)
    begun = encoded(2, bytes(5000))[:-100]
    assert decoder.feed(begun + encode(AFTER)) == [BadFrame("torn", len(begun)), AFTER]
    whole = encoded(2, bytes(5000))
    assert decoder.feed(whole + encode(AFTER)) == [BadFrame("crc", len(whole)), AFTER]


def test_what_it_lacks_is_known_while_it_comes() -> None:
    seen = Seen()
    seen.read(encoded(2, bytes(1000))[:-400], 10_000)
    assert seen.decoder.lacks == 400
    assert len(seen.decoder.room()) == 400
    assert seen.decoder.inside


def test_pieces_of_either_kind_hold_the_same() -> None:
    bulk = [bytes(piece.payload) for piece in pieces(5, 9, 200_001, 65536, bulk=True)]
    assert bulk == [piece.payload for piece in pieces(5, 9, 200_001, 65536, bulk=False)]
    assert [len(payload) for payload in bulk] == [65536] * 3 + [3393]


# An agent and its client, which take a Unix socket for one of vsock


@pytest.fixture(scope="module")
def agent() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


@pytest.fixture
def client(agent: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentClient]:
    monkeypatch.setattr(guest_client, "widen", lambda _sock: True)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(agent))
    with AgentClient(sock) as client:
        yield client


def soon() -> Deadline:
    return Deadline(HANGS)


def test_both_ways_between_client_and_agent(client: AgentClient) -> None:
    far: list[int] = []
    for seed in (1, 2):
        client.send(seed, BULK + 5, deadline=soon())
        client.receive(seed, BULK + 5, on_progress=far.append, deadline=soon())
    client.echo(b"and small", deadline=soon())
    assert far[-1] == BULK + 5


@pytest.mark.parametrize("at", [0, 70_000, BULK - 1])
def test_a_wrong_byte_is_seen_by_the_agent(
    client: AgentClient, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def wrong(request: int, seed: int, total: int, chunk: int, *, bulk: bool) -> Iterator[Frame | Bulk]:
        assert bulk
        data = bytearray().join(piece.payload for piece in pieces(request, seed, total, chunk, bulk=True))
        data[at] ^= 1
        for start in range(0, total, chunk):
            yield Bulk(request, memoryview(data)[start : start + chunk])

    monkeypatch.setattr(guest_client, "pieces", wrong)
    with pytest.raises(WrongData) as caught:
        client.send(1, BULK, deadline=soon())
    assert caught.value.at == at


def test_a_wrong_byte_is_seen_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_client, "widen", lambda _sock: True)
    ours, theirs = socket.socketpair()

    def answer() -> None:
        (source,) = Decoder().feed(theirs.recv(65536))
        assert isinstance(source, Frame)
        assert json.loads(source.payload)["bulk"]
        data = bytearray(next(pieces(0, 2, BULK, 1000, bulk=False)).payload)
        data[100] ^= 1
        theirs.sendall(encoded(source.request, bytes(data)))

    with AgentClient(ours) as client, theirs, ThreadPoolExecutor() as pool:
        answering = pool.submit(answer)
        with pytest.raises(WrongData) as caught:
            client.receive(2, BULK, deadline=soon())
        answering.result()
    assert caught.value.at == 100


def test_an_answer_that_comes_too_late_is_dropped(client: AgentClient) -> None:
    with pytest.raises(DeadlinePassed):
        client.receive(1, 64 * BULK, deadline=Deadline(0.01))
    client.echo(b"goes on", deadline=soon())


def test_one_for_no_sink_is_refused(agent: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(agent))
        sock.sendall(encoded(9, bytes(2000)))
        (error,) = Decoder().feed(sock.recv(65536))
    assert isinstance(error, Frame)
    assert (error.kind, error.request) == (Kind.ERROR, 9)
    assert json.loads(error.payload) == {
        "code": "no-sink",
        "message": "BULK for a request that is no open SINK",
    }
