"""The agent behind a proxy: many streams on one line, spoken to in yamux frames."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.agent import yamux
from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.agent.yamux import ACK, FIN, RST, SYN, WINDOW, Type
from harness.model.deadline import Deadline, until
from tests.unit.agents import serial_like_agent, yamux_agent
from tests.unit.hangs import HANGS

HEADER = struct.Struct(">BBHII")
Told = tuple[int, int, int, int]  # type, flags, stream, length


class Proxy:
    """A proxy's end of the line, that a test moves by hand: no window is given but by `widen`."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self.told: list[Told] = []
        self.data: dict[int, bytes] = defaultdict(bytes)
        self._raw = b""
        self._decoders: dict[int, Decoder] = defaultdict(Decoder)
        self._frames: dict[int, list[Frame]] = defaultdict(list)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def tell(self, kind: Type, flags: int, stream: int, length: int, data: bytes = b"") -> None:
        self.sock.sendall(yamux.frame(kind, flags, stream, length, data))

    def open(self, *streams: int) -> None:
        for stream in streams:
            self.tell(Type.WINDOW_UPDATE, SYN, stream, 0)
            self.wait_for(Type.WINDOW_UPDATE, ACK, stream, 0)

    def finish(self, stream: int) -> None:
        self.tell(Type.WINDOW_UPDATE, FIN, stream, 0)

    def widen(self, stream: int, count: int) -> None:
        self.tell(Type.WINDOW_UPDATE, 0, stream, count)

    def pour(self, stream: int, piece: bytes, times: int, busy: Callable[[], object] = bool) -> None:
        """Send `piece` so many times, calling `busy` after each, and keep to the window."""
        room = WINDOW - 1000  # of what the test has sent before
        for _ in range(times):
            while room < len(piece):
                self.read_one()
                room += sum(told[3] for told in self.told if told[2] == stream)
                self.told.clear()
            self.tell(Type.DATA, 0, stream, len(piece), piece)
            room -= len(piece)
            busy()

    def send(self, stream: int, kind: Kind, request: int, payload: bytes | dict[str, Any] = b"") -> None:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        raw = encode(Frame(kind, request, raw))
        self.tell(Type.DATA, 0, stream, len(raw), raw)

    def ask(self, stream: int, kind: Kind, payload: dict[str, Any] | None = None) -> Any:
        self.send(stream, kind, 7, payload or {})
        return json.loads(self.read(stream).payload)

    def containers(self, stream: int) -> int:
        return int(self.ask(stream, Kind.FACTS)["containers"])

    def read(self, stream: int) -> Frame:
        """The next of the agent's frames on a stream."""
        while not self._frames[stream]:
            self.read_one()
        return self._frames[stream].pop(0)

    def wait_for(self, *wanted: int) -> None:
        while wanted not in self.told:
            self.read_one()
        self.told.remove(wanted)

    def read_one(self) -> None:
        """One yamux frame.

        :raise EOFError: at the end.
        """
        version, kind, flags, stream, length = HEADER.unpack(self._exactly(HEADER.size))
        assert version == 0
        if kind != Type.DATA:
            self.told.append((kind, flags, stream, length))
            return
        assert not flags
        piece = self._exactly(length)
        self.data[stream] += piece
        for frame in self._decoders[stream].feed(piece):
            assert isinstance(frame, Frame), frame
            self._frames[stream].append(frame)

    def _exactly(self, size: int) -> bytes:
        while len(self._raw) < size:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self._raw += more
        piece, self._raw = self._raw[:size], self._raw[size:]
        return piece


@pytest.fixture(scope="module")
def connection() -> Iterator[Path]:
    with yamux_agent() as path:
        yield path


@pytest.fixture(scope="module")
def port() -> Iterator[Path]:
    with serial_like_agent("mux") as path:
        yield path


@pytest.fixture(params=["connection", "port"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with Proxy(request.getfixturevalue(request.param)) as made:
        yield made


def soon(fact: Callable[[], object], what: str) -> None:
    until(lambda: fact() or None, Deadline(HANGS), what, every=0.01)


def test_streams_are_connections_that_do_not_touch(proxy: Proxy) -> None:
    proxy.open(1, 3)
    for number in range(5):
        for stream in (1, 3):
            proxy.send(stream, Kind.ECHO, number, f"{stream} {number}".encode())
    for stream in (3, 1):
        for number in range(5):
            assert proxy.read(stream) == Frame(Kind.DATA, number, f"{stream} {number}".encode())


def test_a_stream_on_a_port_names_its_device_and_one_elsewhere_has_none(connection: Path, port: Path) -> None:
    with Proxy(connection) as proxy:
        proxy.open(1)
        assert proxy.ask(1, Kind.HELLO)["channel"] == "unix"
        assert proxy.ask(1, Kind.OPEN_DEVICE, {"device": "self"})["device"] is None
    with Proxy(port) as proxy:
        proxy.open(1)
        assert proxy.ask(1, Kind.HELLO, {"sole": True})["channel"] == "/dev/vport0p1"
        assert proxy.ask(1, Kind.OPEN_DEVICE, {"device": "self"})["device"] == "/dev/vport0p1"


def test_pings_are_answered(proxy: Proxy) -> None:
    proxy.tell(Type.PING, SYN, 0, 12345)
    proxy.wait_for(Type.PING, ACK, 0, 12345)


def test_a_client_that_does_not_read_gets_a_window_and_stalls_no_other(proxy: Proxy) -> None:
    proxy.open(1, 3)
    proxy.send(1, Kind.SOURCE, 1, {"seed": 1, "bytes": 8 << 20, "chunk": 65536})
    while len(proxy.data[1]) < WINDOW:
        proxy.read_one()
    for number in range(20):
        proxy.send(3, Kind.ECHO, number, bytes(4096))
        assert proxy.read(3).request == number
        proxy.widen(3, len(proxy.data.pop(3)))
    assert len(proxy.data[1]) == WINDOW
    proxy.widen(1, 1000)
    while len(proxy.data[1]) < WINDOW + 1000:
        proxy.read_one()


def test_a_session_that_does_not_read_takes_a_window_and_stalls_no_other(proxy: Proxy) -> None:
    proxy.open(1, 3)
    proxy.ask(1, Kind.RUN, {"argv": ["sleep", "1000"]})
    stdin = encode(Frame(Kind.STDIN, 7, bytes(15000)))

    def other() -> None:
        proxy.send(3, Kind.ECHO, 1, b"well?")
        assert proxy.read(3).payload == b"well?"

    proxy.pour(1, stdin, WINDOW // len(stdin) - 1, other)  # to a container that reads nothing
    assert proxy.containers(3) == 1
    proxy.finish(1)  # seen though a window of data before it is not
    soon(lambda: proxy.containers(3) == 0, "the end of the container")
    proxy.wait_for(Type.WINDOW_UPDATE, FIN, 1, 0)


def test_what_came_before_a_client_left_is_done_and_answered(proxy: Proxy) -> None:
    proxy.open(1)
    proxy.send(1, Kind.ECHO, 1, b"first")
    proxy.send(1, Kind.ECHO, 2, b"last")
    proxy.finish(1)
    assert [proxy.read(1).payload, proxy.read(1).payload] == [b"first", b"last"]
    proxy.wait_for(Type.WINDOW_UPDATE, FIN, 1, 0)


@pytest.mark.parametrize("how", [FIN, RST])
def test_a_client_that_leaves_ends_its_container_and_no_other(proxy: Proxy, how: int) -> None:
    proxy.open(1, 3)
    for stream in (1, 3):
        proxy.ask(stream, Kind.RUN, {"argv": ["sleep", "1000"]})
    assert proxy.containers(3) == 2
    proxy.tell(Type.WINDOW_UPDATE, how, 1, 0)
    soon(lambda: proxy.containers(3) == 1, "the end of the container")


def test_a_client_that_leaves_in_the_middle_of_an_answer_is_not_waited_for(proxy: Proxy) -> None:
    proxy.open(1, 3)
    proxy.ask(1, Kind.RUN, {"argv": ["sleep", "1000"]})
    proxy.send(1, Kind.SOURCE, 1, {"seed": 1, "bytes": 8 << 20, "chunk": 65536})
    while len(proxy.data[1]) < WINDOW:
        proxy.read_one()
    proxy.finish(1)  # all that a proxy says, and it gives no window any more
    proxy.wait_for(Type.WINDOW_UPDATE, RST, 1, 0)
    soon(lambda: proxy.containers(3) == 0, "the end of the container")


def test_a_session_that_ends_itself_finishes_its_stream_and_no_other(proxy: Proxy) -> None:
    proxy.open(1, 3)
    proxy.tell(Type.DATA, 0, 1, 7, b"garbage")
    assert json.loads(proxy.read(1).payload)["code"] == "bad-frame-garbage"
    proxy.wait_for(Type.WINDOW_UPDATE, FIN, 1, 0)
    proxy.pour(1, bytes(32768), 16)  # more than a window: what nobody wants is taken all the same
    proxy.finish(1)
    proxy.send(3, Kind.ECHO, 1, b"well?")
    assert proxy.read(3).payload == b"well?"


def test_more_than_a_window_each_way_goes_through(proxy: Proxy) -> None:
    proxy.open(1)
    total = 4 * WINDOW
    proxy.send(1, Kind.SOURCE, 1, {"seed": 1, "bytes": total, "chunk": 4096})
    while (frame := proxy.read(1)).kind != Kind.DONE:
        proxy.widen(1, len(encode(frame)))
    proxy.send(1, Kind.SINK, 2, {"bytes": total})
    proxy.pour(1, encode(Frame(Kind.DATA, 2, bytes(4096))), total // 4096)
    assert json.loads(proxy.read(1).payload)["bytes"] == total


def test_what_a_proxy_does_not_read_makes_the_agent_stop_reading(proxy: Proxy) -> None:
    ping = yamux.frame(Type.PING, SYN, 0, 1) * 1000
    sent = 0
    proxy.sock.setblocking(False)
    poll = select.poll()
    poll.register(proxy.sock, select.POLLOUT)
    while sent < 64 << 20 and poll.poll(300):
        with contextlib.suppress(BlockingIOError):
            sent += proxy.sock.send(ping[sent % len(ping) :])
    assert sent < 8 << 20
    proxy.sock.settimeout(10)
    for _ in range(sent // 12):
        proxy.read_one()
    assert len(proxy.told) == sent // 12
    proxy.sock.sendall(ping[sent % 12 : 12])  # the torn one's rest, or one more
    proxy.open(1)


def test_all_streams_end_with_their_proxy_and_the_next_one_begins_anew(port: Path) -> None:
    with Proxy(port) as proxy:
        proxy.open(1, 3)
        pids = [proxy.ask(stream, Kind.RUN, {"argv": ["sleep", "1000"]})["pid"] for stream in (1, 3)]
        proxy.sock.sendall(yamux.frame(Type.DATA, 0, 3, 100, b"torn"))
    soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of the containers")
    with Proxy(port) as proxy:
        proxy.open(1)
        assert proxy.containers(1) == 0


def test_a_proxy_that_follows_unseen_is_known_by_its_first_stream(port: Path) -> None:
    with Proxy(port) as proxy:
        proxy.open(1, 3)
        proxy.ask(1, Kind.RUN, {"argv": ["sleep", "1000"]})
        proxy.open(1)
        soon(lambda: proxy.containers(1) == 0, "the end of the container")


@pytest.mark.parametrize(
    "hostile", [b"\1" * 12, b"GET / HTTP/1.0\r\n", yamux.frame(Type.DATA, SYN, 1, 1 << 30)]
)
def test_a_connection_that_is_no_yamux_is_told_and_ended(connection: Path, hostile: bytes) -> None:
    with Proxy(connection) as proxy:
        proxy.sock.sendall(hostile)
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                proxy.read_one()
        assert proxy.told[-1:] in ([(Type.GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR)], [])
    with Proxy(connection) as proxy:
        proxy.open(1)


def test_a_port_is_deaf_after_what_is_no_yamux_until_another_proxy_begins(port: Path) -> None:
    with Proxy(port) as proxy:
        proxy.open(1)
        proxy.ask(1, Kind.RUN, {"argv": ["sleep", "1000"]})
        proxy.sock.sendall(b"\1" * 12)
        proxy.wait_for(Type.GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR)
        proxy.sock.sendall(yamux.frame(Type.PING, SYN, 0, 1) + os.urandom(10000))
    with Proxy(port) as proxy:  # perhaps the agent has not seen that the other one left
        proxy.open(1)
        soon(lambda: proxy.containers(1) == 0, "the end of the container")
        assert not proxy.told
