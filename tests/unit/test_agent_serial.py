"""The agent on a serial port: one client after the other, and what each leaves to the next."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent.channel import PortChannel, make_raw, open_serial
from harness.agent.wire import SYNC, Frame, Kind, encode
from tests.unit.agents import serial_like_agent
from tests.unit.peers import Peer, soon
from tests.unit.processes import alive


@pytest.fixture(scope="module", params=["port", "tty"])
def serial(request: pytest.FixtureRequest) -> Iterator[Path]:
    with serial_like_agent(request.param) as path:
        yield path


@pytest.fixture(scope="module")
def port() -> Iterator[Path]:
    with serial_like_agent("port") as path:
        yield path


@pytest.mark.parametrize("left", [b"noise", b"\xf7v", SYNC, encode(Frame(Kind.ECHO, 1, bytes(100)))[:50]])
def test_the_next_client_is_served_after_one_that_left_in_mid_frame(serial: Path, left: bytes) -> None:
    with Peer(serial) as peer:
        peer.ask(Kind.HELLO, 1)
        peer.sock.sendall(left)
    with Peer(serial) as peer:
        peer.send(Kind.ECHO, 2, b"mine")
        complaints = peer.read_until(Frame(Kind.DATA, 2, b"mine"))
    # None if the agent made it while no client was there, and the tty lost it.
    assert len(complaints) <= 1
    for complaint in complaints:
        assert isinstance(complaint, Frame)
        assert (complaint.kind, complaint.request) == (Kind.ERROR, 0)


def test_the_next_client_waits_and_is_served_once_the_first_leaves(serial: Path) -> None:
    with Peer(serial) as waiting_for:
        waiting_for.ask(Kind.HELLO, 1)
        with Peer(serial) as waiting:
            waiting.send(Kind.ECHO, 2, b"mine")
            waiting.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.read()
            waiting_for.sock.close()
            waiting.sock.settimeout(10)
            assert waiting.read() == Frame(Kind.DATA, 2, b"mine")


def test_stale_reply_on_a_serial_port(serial: Path) -> None:
    with Peer(serial) as peer:
        peer.send(Kind.ECHO_LATER, 1, b"of the first")
    with Peer(serial) as peer:
        peer.send(Kind.ECHO, 2, b"mine")
        assert peer.read() == Frame(Kind.DATA, 1, b"of the first")
        assert peer.read() == Frame(Kind.DATA, 2, b"mine")


def test_no_stale_reply_on_connections(many: Path) -> None:
    with Peer(many) as peer:
        peer.send(Kind.ECHO_LATER, 1, b"of the first")
    with Peer(many) as peer:
        peer.send(Kind.ECHO, 2, b"mine")
        assert peer.read() == Frame(Kind.DATA, 2, b"mine")


def test_a_reply_nobody_reads_is_kept_for_the_next_client_of_a_port(port: Path) -> None:
    with Peer(port) as peer:
        pid = peer.run(5, "sleep", "1000")
        peer.send(Kind.SOURCE, 1, {"seed": 1, "bytes": 8 << 20})
        peer.sock.recv(1)
    soon(lambda: not alive(pid), "the agent's noticing")
    with Peer(port) as peer:
        peer.send(Kind.ECHO, 2, b"mine")
        before = peer.read_until(Frame(Kind.DATA, 2, b"mine"))
    assert 0 < len(before) < 20  # what was being written, not all 8 MiB


def test_port_containers_end_when_the_client_leaves(port: Path) -> None:
    with Peer(port) as peer:
        pids = [peer.run(1, "sleep", "1000"), peer.run(2, "yes")]
        assert all(map(alive, pids))
    soon(lambda: not any(map(alive, pids)), "the containers' end")
    with Peer(port) as peer:
        peer.send(Kind.ECHO, 7)
        before = peer.read_until(Frame(Kind.DATA, 7))
        assert len(before) < 20  # what was under way, not all that yes can write


def test_a_sole_client_ends_what_an_unseen_leaving_left(serial: Path) -> None:
    with Peer(serial) as peer:
        peer.run(1, "sleep", "1000")
        peer.ask(Kind.HELLO, 2, {"sole": False})
        assert peer.containers() == 1
        peer.ask(Kind.HELLO, 3, {"sole": True})
        assert peer.containers() == 0


def test_a_port_without_a_client_neither_spins_nor_ends(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read_fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(read_fd, True)
    channel = PortChannel("/dev/test", read_fd, os.open("/dev/null", os.O_WRONLY))
    hangups: list[bool] = []
    channel.watch(hangups.append)
    got: list[bytes] = []

    def read() -> None:
        room = bytearray(10)
        for _ in range(2):
            count = channel.read(memoryview(room))
            got.append(bytes(room[:count]))

    reader = threading.Thread(target=read)
    reader.start()
    for number in (1, 2):
        with open(fifo, "wb", buffering=0) as client:
            client.write(b"%d" % number)
            soon(lambda: got[number - 1 :], "a byte")  # noqa: B023 - called at once
        if number == 1:
            soon(lambda: True in hangups[1:], "the hangup")
            select.poll().poll(100)  # a spinning reader would call on and on
            assert len(hangups) < 10
    reader.join()
    assert got == [b"1", b"2"]
    channel.close()


def test_raw_tty_neither_echoes_nor_translates() -> None:
    master, slave = os.openpty()
    try:
        make_raw(slave)
        sent = bytes(range(256))
        os.write(master, sent)
        assert os.read(slave, 1000) == sent
        os.write(slave, sent)
        assert os.read(master, 1000) == sent
    finally:
        os.close(master)
        os.close(slave)


def test_open_serial_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_serial(str(tmp_path / "none"))
