"""The agent's containers: their streams, how they end, and with whom."""

from __future__ import annotations

import json
import os
import select
import socket
from pathlib import Path

import pytest

from harness.agent.wire import Frame, Kind, encode
from tests.unit.peers import Peer, soon
from tests.unit.processes import alive


def test_stdin_stdout_stderr_and_exit_code(many: Path) -> None:
    with Peer(many) as peer:
        peer.run(4, "sh", "-c", "echo -n out; echo -n err >&2; cat; exit 7")
        peer.send(Kind.STDIN, 4, b"-in")
        peer.send(Kind.STDIN, 4)
        got = {Kind.STDOUT: b"", Kind.STDERR: b""}
        while (frame := peer.read()).kind != Kind.EXIT:
            assert frame.request == 4
            got[Kind(frame.kind)] += frame.payload
    assert got == {Kind.STDOUT: b"out-in", Kind.STDERR: b"err"}
    assert json.loads(frame.payload) == {"code": 7, "signal": None}


def test_a_labelled_client_that_went_without_containers_is_not_told_to_have_lost_any(many: Path) -> None:
    for label, argv in (("with", ("sleep", "1000")), ("ended", ("true",)), ("without", ())):
        with Peer(many) as peer:
            peer.ask(Kind.HELLO, 3, {"label": label})
            if argv:
                peer.run(4, *argv)
            if label == "ended":
                assert peer.read().kind == Kind.EXIT

    def told(what: str) -> list[str]:
        with Peer(many) as peer:
            return list(peer.ask(Kind.FACTS, 3)[what])

    soon(lambda: len(told("ended")) == 3, "their ends")
    assert told("removed") == ["with"]


def test_much_output_on_both_is_whole_and_not_mixed(many: Path) -> None:
    script = "(yes out | head -c 1000000) & (yes err | head -c 1000000 >&2); wait"
    with Peer(many) as peer:
        peer.run(4, "sh", "-c", script)
        got = {Kind.STDOUT: b"", Kind.STDERR: b""}
        while (frame := peer.read()).kind != Kind.EXIT:
            got[Kind(frame.kind)] += frame.payload
    assert got == {Kind.STDOUT: b"out\n" * 250_000, Kind.STDERR: b"err\n" * 250_000}


def test_signal(many: Path) -> None:
    with Peer(many) as peer:
        peer.run(4, "sleep", "1000")
        assert peer.ask(Kind.SIGNAL, 4, {"signal": "SIGNONE"})["code"] == "bad-request"
        assert peer.ask(Kind.SIGNAL, 4, {"signal": "SIGUSR1"}) == {"code": None, "signal": "SIGUSR1"}


def test_the_first_process_takes_the_others_with_it(many: Path) -> None:
    """Else the exit would wait for the pipe that the other one holds."""
    with Peer(many) as peer:
        peer.run(4, "sh", "-c", "sleep 1000 & echo $!")
        child = int(peer.read().payload)
        assert json.loads(peer.read().payload) == {"code": 0, "signal": None}
        soon(lambda: not alive(child), "the child's end")


def test_one_that_escapes_does_not_keep_the_exit_back(many: Path) -> None:
    with Peer(many) as peer:
        peer.run(4, "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000")
        escaped = int(peer.read().payload)
        assert peer.ask(Kind.SIGNAL, 4, {"signal": "SIGKILL"})["signal"] == "SIGKILL"
        os.kill(escaped, 9)


def test_two_containers_on_one_connection(many: Path) -> None:
    with Peer(many) as peer:
        peer.run(1, "cat")
        peer.run(2, "cat")
        assert peer.ask(Kind.RUN, 2, {"argv": ["true"]})["code"] == "bad-request"
        for request in (1, 2, 1):
            peer.send(Kind.STDIN, request, b"to %d" % request)
            assert peer.read() == Frame(Kind.STDOUT, request, b"to %d" % request)
        assert peer.containers() == 2


def test_containers_end_with_their_connection(many: Path) -> None:
    with Peer(many) as other:
        stays = other.run(1, "sleep", "1000")
        with Peer(many) as peer:
            pids = [peer.run(request, "sleep", "1000") for request in range(3)]
            assert other.containers() == 4
        soon(lambda: other.containers() == 1, "the containers' end")
        assert [alive(pid) for pid in (*pids, stays)] == [False, False, False, True]


def test_output_that_nobody_reads_never_reaches_another_client(many: Path) -> None:
    with Peer(many) as peer:
        for request in range(4):
            peer.run(request, "sh", "-c", "read go; exec yes")
        for request in range(4):
            peer.send(Kind.STDIN, request, b"\n")
        seen: set[int] = set()
        while len(seen) < 4:
            seen.add(peer.read().request)
        with Peer(many) as other:
            sockets = other.ask(Kind.FACTS, 1)["sockets"]
            # meanwhile all block, one behind the other
            assert not select.select([other.sock], [], [], 0.5)[0]
            peer.sock.shutdown(socket.SHUT_WR)
            soon(lambda: other.ask(Kind.FACTS, 1)["sockets"] < sockets, "the connection's end")
            # the accept that waits has a number already; the one after it gets the number that got free
            with Peer(many) as third, Peer(many) as fourth:
                assert (third.containers(), fourth.containers()) == (0, 0)
                while peer.sock.recv(65536):
                    pass
                assert not select.select([third.sock, fourth.sock], [], [], 0.3)[0]


@pytest.mark.parametrize("argv", [["yes"], ["sleep", "1000"]], ids=["output-unread", "input-unread"])
def test_containers_end_however_blocked_their_streams_are(many: Path, argv: list[str]) -> None:
    with Peer(many) as other:
        with Peer(many) as peer:
            pid = peer.run(1, *argv)
            peer.sock.settimeout(0.2)
            frame = encode(Frame(Kind.STDIN, 1, bytes(100_000)))
            with pytest.raises(TimeoutError):  # when the agent takes no more
                peer.sock.sendall(frame * 200)
            assert alive(pid)
        soon(lambda: other.containers() == 0, "the container's end")


def test_stdin_after_the_end_is_lost(many: Path) -> None:
    with Peer(many) as peer:
        peer.run(1, "true")
        assert peer.read().kind == Kind.EXIT
        peer.send(Kind.STDIN, 1, b"late")
        peer.send(Kind.SIGNAL, 1, {"signal": "SIGTERM"})
        peer.send(Kind.ECHO, 2)
        assert peer.read() == Frame(Kind.DATA, 2, b"")
