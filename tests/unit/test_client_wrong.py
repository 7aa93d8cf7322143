"""The client of the agent: wrong data, garbled and lost answers, limits."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import pytest

from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient, ConnectionLost, Garbled, WrongData
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from tests.unit.puppets import puppet, reply, soon


def test_wrong_data_tells_where() -> None:
    def flip(frame: Frame) -> bytes:
        return reply(frame, payload=frame.payload.replace(b"\x05", b"\x06"))

    with puppet(flip) as client, pytest.raises(WrongData, match="echo: wrong data at byte 65541") as caught:
        client.echo(bytes(65536) + bytes(range(100)), deadline=soon())
    assert caught.value.at == 65541
    assert caught.value.expected.startswith("0506")
    assert caught.value.seen.startswith("0606")


def test_short_data_is_wrong() -> None:
    with puppet(lambda frame: reply(frame, payload=frame.payload[:-1])) as client:
        with pytest.raises(WrongData, match="at byte 2: want 63, got the end"):
            client.echo(b"abc", deadline=soon())


def test_receive_of_another_seed_is_wrong() -> None:
    def wrong(frame: Frame) -> bytes:
        return reply(frame, payload=bytes(100)) + reply(frame, Kind.DONE, b'{"bytes": 100, "wrong": null}')

    with puppet(wrong) as client, pytest.raises(WrongData, match="receive: wrong data at byte 0"):
        client.receive(1, 100, deadline=soon())


def test_receive_of_too_little_is_wrong() -> None:
    done = b'{"bytes": 100, "wrong": null}'
    with puppet(lambda frame: reply(frame, Kind.DONE, done)) as client:
        with pytest.raises(WrongData, match="receive: count"):
            client.receive(1, 100, deadline=soon())


@pytest.mark.parametrize(
    ("done", "message"),
    [
        ({"bytes": 99, "wrong": None}, "send: count: wrong data"),
        (
            {"bytes": 100, "wrong": {"at": 7, "expected": "01", "seen": "02"}},
            "send: wrong data at byte 7: want 01, got 02",
        ),
    ],
)
def test_send_that_did_not_arrive_whole_is_wrong(done: dict[str, object], message: str) -> None:
    answer = json.dumps(done).encode()
    with puppet(lambda frame: reply(frame, Kind.DONE, answer) if frame.kind == Kind.DATA else b"") as client:
        with pytest.raises(WrongData, match=message):
            client.send(1, 100, deadline=soon())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda frame: b"noise", "garbage"),
        (lambda frame: reply(frame)[:-16] + reply(frame), "torn"),
        (lambda frame: reply(frame)[:-1] + bytes((reply(frame)[-1] ^ 1,)), "crc"),
        (lambda frame: reply(frame, Kind.STDOUT), "kind"),
        (lambda frame: reply(frame, Kind.REPLY, b"{}"), "kind"),
    ],
)
def test_garbled(answer: Callable[[Frame], bytes], reason: str) -> None:
    with puppet(answer) as client, pytest.raises(Garbled) as caught:
        client.echo(b"hello", deadline=soon())
    assert caught.value.reason == reason


def test_an_answer_of_another_shape_is_garbled() -> None:
    with puppet(lambda frame: reply(frame, Kind.REPLY, b'{"agent": 7}')) as client:
        with pytest.raises(Garbled, match="want a Hello") as caught:
            client.hello(deadline=soon())
    assert caught.value.reason == "answer"


def test_eof_in_mid_frame_is_lost() -> None:
    def leave(frame: Frame) -> bytes | None:
        return reply(frame)[:9] if frame.payload == b"1" else None

    with puppet(leave) as client:
        with pytest.raises(DeadlinePassed):
            client.echo(b"1", deadline=Deadline(0.1))
        with pytest.raises(ConnectionLost, match="in the middle of a frame") as caught:
            client.echo(b"2", deadline=soon())
        assert caught.value.why == "eof"


def test_a_container_whose_agent_goes_is_lost() -> None:
    def run(frame: Frame) -> bytes | None:
        return reply(frame, Kind.REPLY, b'{"pid": 7}') if frame.kind == Kind.RUN else None

    with puppet(run) as client:
        container = client.start(["cat"], deadline=soon())
        container.write_stdin(b"in", deadline=soon())
        with pytest.raises(ConnectionLost, match="wait for a container"):
            container.wait(deadline=soon())


def test_the_agents_last_words_are_told() -> None:
    error = encode(Frame(Kind.ERROR, 0, b'{"code": "bad-frame-crc", "message": "why"}'))
    ours, theirs = socket.socketpair()
    with AgentClient(ours) as client:
        theirs.sendall(error)
        theirs.close()
        with pytest.raises(ConnectionLost, match="bad-frame-crc: why") as caught:
            client.echo(bytes(1 << 20), deadline=soon())
        assert caught.value.why in {"EPIPE", "ECONNRESET", "eof"}


def test_window_limits_what_is_unanswered() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs, AgentClient(ours, chunk=1000, window=3000) as client:
        with pytest.raises(DeadlinePassed):
            client.echo(bytes(10_000), deadline=Deadline(0.1))
        frames = Decoder().feed(theirs.recv(1 << 20))
    assert [len(frame.payload) for frame in frames if isinstance(frame, Frame)] == [1000] * 3


def test_request_ids_of_two_clients_are_apart() -> None:
    firsts = set()
    for _ in range(4):
        ours, theirs = socket.socketpair()
        with theirs, AgentClient(ours) as client:
            firsts.add(client.ask_later(b"", deadline=soon()))
    assert len(firsts) == 4
    assert all(0 < first < 1 << 31 for first in firsts)
