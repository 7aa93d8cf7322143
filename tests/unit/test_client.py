"""The blocking client, against real agents and against one that misbehaves."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent import digest
from harness.agent.wire import Decoder, Frame, Kind, encode
from harness.guest.client import (
    AgentClient,
    AgentError,
    Completed,
    ConnectionLost,
    Garbled,
    StaleReply,
    WrongData,
)
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed
from tests.unit.agents import HARNESS, serial_like_agent, unix_agent


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


@pytest.fixture(scope="module", params=["many", "port", "tty"])
def any_agent(request: pytest.FixtureRequest, many: Path) -> Iterator[Path]:
    if request.param == "many":
        yield many
        return
    with serial_like_agent(request.param) as path:
        yield path


def connect(path: Path) -> AgentClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return AgentClient(sock)


def soon() -> Deadline:
    return Deadline(10)


@contextlib.contextmanager
def puppet(answer: Callable[[Frame], bytes | None]) -> Iterator[AgentClient]:
    """A client of an agent that sends, to each frame, the bytes that `answer` says, and closes on None."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        decoder = Decoder()
        with theirs, contextlib.suppress(OSError):
            while data := theirs.recv(65536):
                for frame in decoder.feed(data):
                    assert isinstance(frame, Frame)
                    reply = answer(frame)
                    if reply is None:
                        return
                    theirs.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    with AgentClient(ours) as client:
        yield client
    thread.join()


def reply(frame: Frame, kind: Kind = Kind.DATA, payload: bytes | None = None) -> bytes:
    return encode(Frame(kind, frame.request, frame.payload if payload is None else payload))


# Against real agents


def test_hello_and_facts(many: Path) -> None:
    with connect(many) as client:
        hello = client.hello(deadline=soon())
        assert (hello.agent, hello.wire) == (digest(str(HARNESS / "agent")), 2)
        assert (hello.channel, hello.kernel) == ("unix", os.uname().release)
        facts = client.facts(deadline=soon())
        assert (facts.sessions, facts.containers) == (1, 0)
        assert facts.rss_kib >= facts.pss_kib > 0
        assert client.open_device(deadline=soon()) == "no-device"
        assert client.open_device("/dev/null", deadline=soon()) == "opened"
        assert client.open_device("/no/such", deadline=soon()) == "ENOENT"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1 << 20])
def test_echo(any_agent: Path, size: int) -> None:
    seen: list[int] = []
    with connect(any_agent) as client:
        client.echo(os.urandom(size), on_progress=seen.append, deadline=soon())
    assert seen == sorted(seen)
    assert seen[-1] == size


def test_echo_of_more_than_all_buffers_hold(many: Path) -> None:
    """Written before anything is read, this would block both ends."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(many))
    with AgentClient(sock, window=1 << 30) as client:
        client.echo(os.urandom(8 << 20), deadline=soon())


@pytest.mark.parametrize("total", [0, 5, (1 << 20) + 3])
def test_send_and_receive(any_agent: Path, total: int) -> None:
    sent: list[int] = [0]
    came: list[int] = [0]
    with connect(any_agent) as client:
        client.send(7, total, on_progress=sent.append, deadline=soon())
        client.receive(7, total, on_progress=came.append, deadline=soon())
    assert (sent[-1], came[-1]) == (total, total)


def test_stop_reading_and_go_on_later(many: Path) -> None:
    with connect(many) as client:
        came: list[int] = []
        client.receive(7, 8 << 20, stop_after=1000, on_progress=came.append, deadline=soon())
        assert 1000 <= came[-1] < 4 << 20
        client.echo(b"after the rest", deadline=soon())


def test_run(any_agent: Path) -> None:
    with connect(any_agent) as client:
        argv = ["sh", "-c", 'cat; pwd; echo "$WORD" >&2; exit 3']
        seen = client.run(argv, stdin=b"in\n", env={"WORD": "said"}, cwd="/proc", deadline=soon())
        assert seen == Completed(b"in\n/proc\n", b"said\n", 3, None)
        assert client.run(["sh", "-c", "kill -9 $$"], deadline=soon()).signal == "SIGKILL"
        big = os.urandom(3 << 20)
        assert client.run(["cat"], stdin=big, deadline=soon()).stdout == big
        with pytest.raises(AgentError) as caught:
            client.run(["/no/such"], deadline=soon())
        assert caught.value.code == "ENOENT"
        assert client.run(["true"], deadline=soon()).code == 0


def test_several_containers_on_one_connection(many: Path) -> None:
    with connect(many) as client:
        cats = [client.start(["cat"], deadline=soon()) for _ in range(3)]
        sleeper = client.start(["sleep", "1000"], deadline=soon())
        assert client.facts(deadline=soon()).containers == 4
        assert len({container.pid for container in (*cats, sleeper)}) == 4
        for number in (2, 0, 1, 2):
            cats[number].write_stdin(b"%d" % number, deadline=soon())
        sleeper.signal("SIGTERM", deadline=soon())
        assert sleeper.wait(deadline=soon()) == Completed(b"", b"", None, "SIGTERM")
        for cat in cats:
            cat.close_stdin(deadline=soon())
        assert [cat.wait(deadline=soon()).stdout for cat in cats] == [b"0", b"1", b"22"]
        assert cats[0].wait().code == 0


def test_stale_reply_on_a_serial_port_and_the_call_after_it() -> None:
    with serial_like_agent() as path:
        with connect(path) as first:
            request = first.ask_later(b"of the first", deadline=soon())
        with connect(path) as second:
            with pytest.raises(StaleReply, match="DATA of 12 bytes") as caught:
                second.hello(deadline=soon())
            assert caught.value.request == request
            assert caught.value.frame.payload == b"of the first"
            assert second.hello(deadline=soon()).channel == "/dev/vport0p1"


def test_never_a_stale_reply_on_connections(many: Path) -> None:
    with connect(many) as first:
        first.ask_later(b"of the first", deadline=soon())
    with connect(many) as second:
        second.hello(deadline=soon())


def test_own_late_reply_is_no_stale_one(many: Path) -> None:
    with connect(many) as client:
        client.ask_later(b"later", deadline=soon())
        client.echo(b"now", deadline=soon())


def test_what_another_client_left_torn_is_a_notice() -> None:
    with serial_like_agent() as path:
        with connect(path) as first:
            first.hello(deadline=soon())
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(path))
            rude.sendall(encode(Frame(Kind.ECHO, 1, bytes(100)))[:50])
        with connect(path) as client:
            client.hello(deadline=soon())
            assert [notice.code for notice in client.notices] == ["bad-frame-torn"]


def test_the_waiting_client_is_served_after_a_deadline_too() -> None:
    """What its first call asked for comes when the first client leaves, and is dropped."""
    with serial_like_agent() as path:
        with connect(path) as first, connect(path) as waiting:
            first.hello(deadline=soon())
            with pytest.raises(DeadlinePassed, match="echo: not within"):
                waiting.echo(bytes(1 << 20), deadline=Deadline(0.1))
            first.close()
            waiting.echo(b"mine", deadline=soon())


def test_containers_go_with_the_client(many: Path) -> None:
    with connect(many) as other:
        with connect(many) as client:
            pid = client.start(["sleep", "1000"], deadline=soon()).pid
        until(lambda: other.facts(deadline=soon()).containers == 0 or None, soon(), "the container's end")
        assert not Path(f"/proc/{pid}").exists()


# Against one that misbehaves


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
