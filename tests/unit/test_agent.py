"""The agent as a process, spoken to in frames: its requests, its connections, its end."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from harness.agent import digest
from harness.agent.seeded import stream
from harness.agent.server import Agent
from harness.agent.wire import MAX_PAYLOAD, WIRE_VERSION, Frame, Kind, encode
from tests.unit.agents import HARNESS, serial_like_agent, unix_agent
from tests.unit.peers import Peer, soon
from tests.unit.processes import alive


def test_hello_names_the_files_it_runs_from(many: Path) -> None:
    with Peer(many) as peer:
        hello = peer.ask(Kind.HELLO, 1)
    assert hello.pop("agent") == digest(str(HARNESS / "agent"))
    assert hello.pop("uptime") > 0
    assert hello["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert hello["kernel"] == os.uname().release
    assert (hello["channel"], hello["wire"], hello["version"]) == ("unix", WIRE_VERSION, "1")


def test_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    seen = set()
    for name, text in [("a.py", "one"), ("a.py", "two"), ("b.py", "two"), ("c.py", "")]:
        (tmp_path / name).write_text(text)
        seen.add(digest(str(tmp_path)))
    assert len(seen) == 4
    (tmp_path / "d.pyc").write_text("compiled")
    assert digest(str(tmp_path)) in seen


# Requests


def test_echo_of_the_longest_payload(many: Path) -> None:
    payload = os.urandom(MAX_PAYLOAD)
    with Peer(many) as peer:
        writer = threading.Thread(target=peer.send, args=(Kind.ECHO, 3, payload))
        writer.start()
        assert peer.read() == Frame(Kind.DATA, 3, payload)
        writer.join()


def test_late_reply_comes_before_the_next_one(many: Path) -> None:
    with Peer(many) as peer:
        peer.send(Kind.ECHO_LATER, 1, b"late")
        peer.send(Kind.ECHO, 2, b"now")
        assert [peer.read(), peer.read()] == [Frame(Kind.DATA, 1, b"late"), Frame(Kind.DATA, 2, b"now")]


def test_late_replies_are_limited(many: Path) -> None:
    with Peer(many) as peer:
        peer.send(Kind.ECHO_LATER, 1, bytes(600_000))
        peer.send(Kind.ECHO_LATER, 2, bytes(600_000))
        first, second = peer.read(), peer.read()
    assert (first.request, len(first.payload)) == (1, 600_000)
    assert json.loads(second.payload)["code"] == "too-much-kept"


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        (99, b"", "unknown-kind"),
        (Kind.HELLO, b"\xff", "bad-request"),
        (Kind.HELLO, b"[]", "bad-request"),
        (Kind.SINK, b'{"bytes": "7"}', "bad-request"),
        (Kind.SINK, b'{"bytes": -7}', "bad-request"),
        (Kind.SINK, b'{"bites": 7}', "bad-request"),
        (Kind.SINK, b"[" * 100_000, "bad-request"),
        (Kind.DATA, b"x", "no-sink"),
        (Kind.SOURCE, b'{"bytes": 9, "chunk": 0}', "bad-request"),
        (Kind.SOURCE, b'{"bytes": 9, "chunk": 1099511627776}', "bad-request"),
        (Kind.RUN, b"{}", "bad-request"),
        (Kind.RUN, b'{"argv": [7]}', "bad-request"),
        (Kind.RUN, b'{"argv": ["a\\u0000b"]}', "bad-request"),
        (Kind.RUN, b'{"argv": ["true"], "env": {"A": 7}}', "bad-request"),
        (Kind.RUN, b'{"argv": ["/no/such"]}', "ENOENT"),
        (Kind.RUN, b'{"argv": ["/"]}', "EACCES"),
        (Kind.RUN, b'{"argv": ["true"], "cwd": "/no/such"}', "ENOENT"),
        (Kind.SIGNAL, b'{"signal": "SIG_IGN"}', "ok"),
    ],
)
def test_refused_requests_leave_the_connection(many: Path, kind: int, payload: bytes, code: str) -> None:
    with Peer(many) as peer:
        peer.sock.sendall(encode(Frame(kind, 5, payload)) + encode(Frame(Kind.ECHO, 6, b"on")))
        answer = peer.read()
        if code != "ok":  # a signal to nobody is not looked at
            assert (answer.kind, answer.request, json.loads(answer.payload)["code"]) == (Kind.ERROR, 5, code)
            answer = peer.read()
        assert answer == Frame(Kind.DATA, 6, b"on")


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda data: data, None),
        (lambda data: data[:70_000] + b"\0" + data[70_001:], 70_000),
        (lambda data: data[:65_536] + data[69_632:] + data[:4096], 65_536),
        (lambda data: data + b"more", 100_000),
    ],
    ids=["right", "a byte changed", "a page lost", "too much"],
)
def test_sink_compares(many: Path, damage: Callable[[bytes], bytes], wrong: int | None) -> None:
    data = b"".join(stream(9, 100_000, 100_000))
    assert data[70_000] != 0
    sent = damage(data)
    with Peer(many) as peer:
        peer.send(Kind.SINK, 1, {"seed": 9, "bytes": len(data)})
        for start in range(0, len(sent), 50_002):
            peer.send(Kind.DATA, 1, sent[start : start + 50_002])
        done = json.loads(peer.read().payload)
    assert done["bytes"] == len(sent)
    assert (done["wrong"] and done["wrong"]["at"]) == wrong
    if wrong is not None:
        assert done["wrong"]["expected"] == data[wrong : wrong + 16].hex()
        assert done["wrong"]["seen"] == sent[wrong : wrong + 16].hex()


def test_open_device(many: Path, tmp_path: Path) -> None:
    with Peer(many) as peer:
        nothing = {"opened": False, "errno": "ENODEV", "device": None}
        assert peer.ask(Kind.OPEN_DEVICE, 1, {"device": "self"}) == nothing
        assert peer.ask(Kind.OPEN_DEVICE, 2, {"device": "/dev/null"})["opened"] is True
        assert peer.ask(Kind.OPEN_DEVICE, 3, {"device": str(tmp_path / "x")})["errno"] == "ENOENT"
        assert peer.ask(Kind.OPEN_DEVICE, 4, {"device": "a\0b"})["errno"] == "EINVAL"


def test_a_tty_opens_twice() -> None:
    with serial_like_agent("tty") as path, Peer(path) as peer:
        answer = peer.ask(Kind.OPEN_DEVICE, 1)
        assert answer["opened"] is True
        assert answer["device"].startswith("/dev/pts/")


# Many connections


def test_fifty_connections_at_once(many: Path) -> None:
    peers = [Peer(many) for _ in range(50)]
    try:
        for number, peer in enumerate(peers):
            peer.send(Kind.ECHO, number, b"%d" % number * 1000)
        for number, peer in reversed(list(enumerate(peers))):
            assert peer.read() == Frame(Kind.DATA, number, b"%d" % number * 1000)
        assert peers[0].ask(Kind.FACTS, 1)["sessions"] >= 50
    finally:
        for peer in peers:
            peer.sock.close()
    with Peer(many) as last:
        soon(lambda: last.ask(Kind.FACTS, 1)["sessions"] == 1, "the sessions' end")


def test_a_client_that_does_not_read_stalls_nobody(many: Path) -> None:
    with Peer(many) as stalled, Peer(many) as other:
        stalled.send(Kind.SOURCE, 1, {"seed": 1, "bytes": 8 << 20})
        stalled.sock.recv(1000)
        for number in range(20):
            other.send(Kind.ECHO, number, b"x" * 1000)
            assert other.read() == Frame(Kind.DATA, number, b"x" * 1000)
        stalled.send(Kind.ECHO, 2)  # queued behind its own data only


def test_bad_frame_on_a_connection_gets_an_error_and_the_end(many: Path) -> None:
    with Peer(many) as peer:
        peer.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        error = peer.read()
        assert (error.kind, error.request) == (Kind.ERROR, 0)
        assert json.loads(error.payload)["code"] == "bad-frame-garbage"
        with pytest.raises((EOFError, ConnectionResetError)):
            peer.read()


def test_accepting_goes_on_when_descriptors_run_out() -> None:
    class Listener:
        """Fails as accept() does with all descriptors in use, then for good."""

        failures = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE, errno.EBADF]  # noqa: RUF012

        def accept(self) -> tuple[socket.socket, object]:
            raise OSError(self.failures.pop(0), "failed")

    with pytest.raises(OSError, match="failed") as caught:
        Agent().listen(cast(socket.socket, Listener()), "test")
    assert caught.value.errno == errno.EBADF


def test_sigterm_ends_the_agent_and_its_containers() -> None:
    with unix_agent() as path:
        peer = Peer(path)
        pid = peer.run(1, "sleep", "1000")
    peer.sock.close()
    assert not alive(pid)
