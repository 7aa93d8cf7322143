"""The agent as a process, spoken to in frames, and its parts."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent import __main__ as start
from harness.agent import digest, ports
from harness.agent.channel import PortChannel, make_raw, open_serial
from harness.agent.seeded import stream
from harness.agent.server import Agent
from harness.agent.wire import MAX_PAYLOAD, SYNC, BadFrame, Decoder, Frame, Kind, encode
from harness.model.deadline import Deadline, until
from tests.unit.agents import HARNESS, serial_like_agent, unix_agent


class Peer:
    """A connection to an agent, in raw bytes and frames."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self._decoder = Decoder()
        self._frames: list[Frame] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, kind: Kind, request: int, payload: bytes | dict[str, Any] = b"") -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.sock.sendall(encode(Frame(kind, request, data)))

    def read(self) -> Frame:
        """The next frame.

        :raise EOFError: at the connection's end.
        """
        while not self._frames:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            for frame in self._decoder.feed(data):
                assert isinstance(frame, Frame), frame
                self._frames.append(frame)
        return self._frames.pop(0)

    def read_until(self, wanted: Frame) -> list[Frame | BadFrame]:
        """Read up to `wanted`, and return what came before, whatever it was."""
        found: list[Frame | BadFrame] = [*self._frames]
        while wanted not in found:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            found += self._decoder.feed(data)
        self._frames = [frame for frame in found[found.index(wanted) + 1 :] if isinstance(frame, Frame)]
        return found[: found.index(wanted)]

    def ask(self, kind: Kind, request: int, payload: bytes | dict[str, Any] = b"") -> Any:
        """Send, read one frame, and return its JSON; fails if it is not the answer to this."""
        self.send(kind, request, payload)
        frame = self.read()
        assert frame.request == request
        return json.loads(frame.payload)

    def run(self, request: int, *argv: str) -> int:
        pid = self.ask(Kind.RUN, request, {"argv": list(argv)})["pid"]
        assert isinstance(pid, int)
        return pid

    def containers(self) -> int:
        return int(self.ask(Kind.FACTS, 999)["containers"])


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


@pytest.fixture(scope="module", params=["port", "tty"])
def serial(request: pytest.FixtureRequest) -> Iterator[Path]:
    with serial_like_agent(request.param) as path:
        yield path


@pytest.fixture(scope="module")
def port() -> Iterator[Path]:
    with serial_like_agent("port") as path:
        yield path


def soon(fact: Callable[[], object], what: str) -> None:
    until(lambda: fact() or None, Deadline(5), what, every=0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_hello_names_the_files_it_runs_from(many: Path) -> None:
    with Peer(many) as peer:
        hello = peer.ask(Kind.HELLO, 1)
    assert hello.pop("agent") == digest(str(HARNESS / "agent"))
    assert hello.pop("uptime") > 0
    assert hello["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert hello["kernel"] == os.uname().release
    assert (hello["channel"], hello["wire"], hello["version"]) == ("unix", 2, "1")


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


# Containers


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


# Serial ports


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


@pytest.fixture(scope="module")
def line() -> Iterator[Peer]:
    with serial_like_agent("port") as path, Peer(path) as peer:
        yield peer


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_corruption_kills_the_agent_on_a_serial_port(line: Peer, data: st.DataObject) -> None:
    line.sock.sendall(data.draw(corrupted()))
    line.send(Kind.ECHO, 77, b"still there")
    line.read_until(Frame(Kind.DATA, 77, b"still there"))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_corruption_kills_the_agent_on_connections(many: Path, data: st.DataObject) -> None:
    with Peer(many) as peer:
        peer.sock.sendall(data.draw(corrupted()))
        peer.sock.shutdown(socket.SHUT_WR)
        try:
            while True:
                peer.read()
        except (EOFError, ConnectionResetError):
            pass
    with Peer(many) as peer:
        peer.send(Kind.ECHO, 1)
        assert peer.read() == Frame(Kind.DATA, 1)


@st.composite
def corrupted(draw: st.DrawFn) -> bytes:
    """Good frames with bytes changed, left out or put in; nothing among them starts a process."""
    kinds = [kind for kind in Kind if kind != Kind.RUN]
    payloads = st.binary(max_size=40) | st.sampled_from([b"{}", b'{"bytes": 100}', SYNC])
    frames = st.builds(Frame, st.sampled_from(kinds), st.integers(0, 5), payloads)
    damaged = bytearray(b"".join(map(encode, draw(st.lists(frames, min_size=1, max_size=4)))))
    for at, how in draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=5)), max_size=6)):
        place = at % (len(damaged) + 1)
        damaged[place : place + draw(st.integers(0, 5))] = how
    return bytes(damaged)


# The process


def test_sigterm_ends_the_agent_and_its_containers() -> None:
    with unix_agent() as path:
        peer = Peer(path)
        pid = peer.run(1, "sleep", "1000")
    peer.sock.close()
    assert not alive(pid)


def test_serial_devices_are_served_once_each_and_again_when_they_come_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    serving: dict[str, threading.Thread] = {}
    for _ in range(2):
        master, slave = os.openpty()
        device = os.ttyname(slave)
        monkeypatch.setattr(ports, "find", lambda device=device: [device, "/no/such"])
        for _ in range(2):
            start.serve_new(Agent(), serving)
        os.write(master, encode(Frame(Kind.ECHO, 1, b"to a tty")))
        assert Decoder().feed(os.read(master, 1000)) == [Frame(Kind.DATA, 1, b"to a tty")]
        os.close(slave)
        os.close(master)
        serving[device].join(10)
        said = capfd.readouterr().out
        assert said.count(f"vsock-harness agent: {device}\n") == 1
        assert said.count("vsock-harness agent: /no/such: [Errno 2]") == 2


# Finding the serial devices


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    for folder in ("dev", "sys/class/tty/console", "sys/class/tty/ttyS1", "sys/class/virtio-ports"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sys/class/tty/console/active").write_text("tty0 ttyS0\n")
    (tmp_path / "sys/class/tty/ttyS1/type").write_text("0\n")
    (tmp_path / "dev/ttyS1").touch()
    return tmp_path


def add_port(guest: Path, port: str, name: str, *, console: bool = False) -> None:
    (guest / "sys/class/virtio-ports" / port).mkdir()
    if name:
        (guest / "sys/class/virtio-ports" / port / "name").write_text(f"{name}\n")
    if console:
        os.mknod(guest / "dev" / port, 0o600 | 0o140000)  # opening a socket's file fails with ENXIO
    else:
        (guest / "dev" / port).touch()


def found(guest: Path) -> list[str]:
    return [str(Path(device).relative_to(guest / "dev")) for device in ports.find(str(guest))]


def test_no_devices(guest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert found(guest) == []
    assert ports.find(str(tmp_path_factory.mktemp("empty"))) == []


def test_second_pc_serial_port_only_with_hardware_and_no_console(guest: Path) -> None:
    (guest / "sys/class/tty/ttyS1/type").write_text("4\n")
    assert found(guest) == ["ttyS1"]
    (guest / "sys/class/tty/console/active").write_text("ttyS0 ttyS1\n")
    assert found(guest) == []


def test_virtio_ports_of_our_name(guest: Path) -> None:
    add_port(guest, "vport1p10", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p9", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p1", "org.qemu.guest_agent.0")
    assert found(guest) == ["vport1p9", "vport1p10"]


def test_the_port_behind_a_proxy_is_known_by_its_name(guest: Path) -> None:
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    add_port(guest, "vport2p1", ports.PROXY_PORT_NAME)
    assert found(guest) == ["vport1p1", "vport2p1"]
    multiplexed = [ports.is_multiplexed(device, str(guest)) for device in ports.find(str(guest))]
    assert multiplexed == [False, True]
    assert not ports.is_multiplexed("/dev/ttyS1", str(guest))


def test_consoles_are_counted_in_their_order(guest: Path) -> None:
    add_port(guest, "vport0p0", "", console=True)
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p2", ports.AGENT_PORT_NAME, console=True)
    assert found(guest) == ["vport1p1", "hvc1"]
    (guest / "sys/class/tty/console/active").write_text("hvc1\n")
    assert found(guest) == ["vport1p1"]


def test_a_port_that_has_no_device_yet(guest: Path) -> None:
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    (guest / "dev/vport1p1").unlink()
    assert found(guest) == []
