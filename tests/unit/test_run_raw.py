"""Steps on raw sockets, against a real agent and ends that misbehave. Unix sockets stand in for vsock."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from harness.agent.sockets import HOST
from harness.guest.errors import WrongData
from harness.host.cid import CidLease
from harness.link.connect import connect
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.model.plan import Initiated
from harness.model.steps import Connect, Messages, Ping, Shutdown, SocketType, Step, Target
from harness.model.trace import What
from harness.run.hybrid import GUEST_CID
from harness.run.raw import HYBRID_NOBODY, Open, Raw, Wrong
from tests.unit.agents import unix_agent
from tests.unit.running import endpoint, ends, group, only, plan, run

SEED = 7
KINDS = {SocketType.STREAM: socket.SOCK_STREAM, SocketType.SEQPACKET: socket.SOCK_SEQPACKET}
BOTH = pytest.mark.parametrize("initiated", [Initiated.HOST, Initiated.GUEST])
MESSAGES = Messages(bytes=1000, times=9)
SHUTDOWN = Shutdown(bytes=100_000)


@pytest.fixture(scope="module")
def agent() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


def open_(where: Endpoint, kind: SocketType, patience: float) -> socket.socket:
    """What the host's connect() to a port of the guest is on vsock."""
    if kind is SocketType.DGRAM:
        raise OSError(errno.ENODEV, "no datagrams")
    sock = socket.socket(socket.AF_UNIX, KINDS[kind])
    try:
        sock.connect(f"{where.path}_{where.port}")
    except OSError:
        sock.close()
        raise
    return sock


def raw(path: Path, initiated: Initiated = Initiated.HOST) -> Raw:
    return Raw(endpoint(path), initiated, 10.0, open_=open_)


@BOTH
def test_messages_keep_their_bounds(agent: Path, initiated: Initiated) -> None:
    seen = raw(agent, initiated).do(SEED, MESSAGES)
    assert seen["messages"] == 9
    assert 1001 < int(seen["bytes"] or 0) < 9000


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_halves_are_closed(agent: Path, initiated: Initiated, kind: SocketType) -> None:
    seen = raw(agent, initiated).do(SEED, Shutdown(bytes=100_000, type=kind))
    assert seen == {
        "bytes": 100_000,
        "seed": SEED,
        "type": kind.value,
        "answer": "whole",
        "own-write": "EPIPE",
        "to-deaf-agent": "EPIPE",
        "agents-write": "EPIPE",
    }


@BOTH
def test_connections(agent: Path, initiated: Initiated) -> None:
    steps = raw(agent, initiated)
    refused = steps.do(SEED, Connect(to=Target.REFUSING, fails=("ENODEV", "ECONNREFUSED")))
    assert refused == {"to": "refusing", "type": "stream", "seen": "ECONNREFUSED"}
    for kind in KINDS:
        assert steps.do(SEED, Connect(to=Target.LISTENING, type=kind))["seen"] == "connected"
    with pytest.raises(Wrong, match="want ECONNRESET, got ECONNREFUSED"):
        steps.do(SEED, Connect(to=Target.REFUSING, fails=("ECONNRESET",)))
    with pytest.raises(Wrong, match="want a connection, got ECONNREFUSED"):
        steps.do(SEED, Connect(to=Target.REFUSING))
    with pytest.raises(Wrong, match="want EPIPE or ENODEV, got a connection"):
        steps.do(SEED, Connect(to=Target.LISTENING, fails=("EPIPE", "ENODEV")))


def test_a_kind_of_socket_that_there_is_not(agent: Path) -> None:
    dgram = Connect(to=Target.LISTENING, type=SocketType.DGRAM, fails=("ENODEV",))
    assert raw(agent).do(SEED, dgram)["seen"] == "ENODEV"


class Cids:
    """Leases without /dev/vhost-vsock: which CID was dialled, and whether it was held then."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.dialled: list[tuple[int | None, int | None, bool]] = []

    @contextlib.contextmanager
    def claim(self) -> Iterator[CidLease]:
        self.held.add(4711)
        yield CidLease(4711, -1)
        self.held.remove(4711)

    @contextlib.contextmanager
    def unheld(self) -> Iterator[int]:
        yield 815

    def open_(self, where: Endpoint, kind: SocketType, patience: float) -> socket.socket:
        self.dialled.append((where.cid, where.port, where.cid in self.held))
        assert where.path is None
        raise OSError(errno.ETIMEDOUT if where.cid in self.held else errno.ENODEV, "no")


@pytest.fixture
def cids(monkeypatch: pytest.MonkeyPatch) -> Cids:
    made = Cids()
    monkeypatch.setattr("harness.run.raw.CidLease.claim", made.claim)
    monkeypatch.setattr("harness.run.raw.unheld", made.unheld)
    return made


def test_only_leased_cids_are_dialled(agent: Path, cids: Cids) -> None:
    steps = Raw(endpoint(agent), Initiated.HOST, 1.0, open_=cids.open_)
    seen = steps.do(SEED, Connect(to=Target.NO_VM, fails=("EHOSTUNREACH", "ETIMEDOUT")))
    assert seen["seen"] == "ETIMEDOUT"
    assert steps.do(SEED, Connect(to=Target.NOBODY, fails=("ENODEV",)))["seen"] == "ENODEV"
    assert cids.dialled == [(4711, AGENT_PORT, True), (815, AGENT_PORT, False)]
    assert not cids.held


def test_the_guest_dials_such_a_cid_itself(agent: Path, cids: Cids) -> None:
    steps = raw(agent, Initiated.GUEST)
    for target in (Target.NO_VM, Target.NOBODY):
        assert steps.do(SEED, Connect(to=target, fails=("ENODEV",)))["seen"] == "ENODEV"
    assert cids.dialled == []


def test_a_cid_that_nobody_holds_on_hybrid_vsock(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is not asked which: there may be no vhost_vsock."""
    there = msgspec.structs.replace(endpoint(agent), link=Link.HYBRID_VSOCK)
    monkeypatch.setattr("harness.run.raw.connect", lambda *_, **__: connect(endpoint(agent)))
    seen = Raw(there, Initiated.GUEST, 1.0).do(SEED, Connect(to=Target.NOBODY, fails=("ENODEV",)))
    assert seen["seen"] == "ENODEV"
    assert HYBRID_NOBODY not in (GUEST_CID, HOST)


# Ends that misbehave


def misbehaving(path: Path, serve: Callable[[socket.socket], object]) -> Raw:
    """Steps whose raw connections have `serve` at the other end, in a thread, and not the agent."""
    return Raw(endpoint(path), Initiated.HOST, 10.0, open_=end_of(serve))


def end_of(serve: Callable[[socket.socket], object]) -> Open:
    """Opens one such connection."""

    def opened(where: Endpoint, kind: SocketType, patience: float) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, KINDS[kind])

        def run_() -> None:
            with theirs, contextlib.suppress(OSError):
                serve(theirs)

        threading.Thread(target=run_, daemon=True).start()
        return ours

    return opened


def merging(sock: socket.socket) -> None:
    """Two messages become one."""
    while True:
        first = sock.recv(4096)
        sock.sendall(first + sock.recv(4096))


def flipping(sock: socket.socket) -> None:
    while piece := sock.recv(4096):
        sock.sendall(bytes([piece[0] ^ 1]) + piece[1:])


def leaving(sock: socket.socket) -> None:
    sock.recv(1)


def adding(sock: socket.socket) -> None:
    """There is one more message than was sent."""
    while piece := sock.recv(4096):
        sock.sendall(piece)
    sock.sendall(b"more")


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (merging, "want message 1 of 1000 bytes, got 1001 bytes"),
        (leaving, r"want message 1 of 1000 bytes, got 0 bytes|want a connection that lasts, got E"),
        (adding, "want the end, got 4 bytes"),
    ],
)
def test_messages_that_do_not_stay_what_they_were(
    agent: Path, serve: Callable[[socket.socket], object], says: str
) -> None:
    with pytest.raises(Wrong, match=says):
        misbehaving(agent, serve).do(SEED, MESSAGES)


def test_messages_with_other_bytes(agent: Path) -> None:
    with pytest.raises(WrongData, match="message: wrong data at byte 0"):
        misbehaving(agent, flipping).do(SEED, MESSAGES)


# In a client


def client(*steps: Step) -> list[Step]:
    return [Ping(), *steps, Ping()]


def test_a_client_that_the_guest_dialled_does_them(agent: Path) -> None:
    refused = Connect(to=Target.REFUSING, fails=("ECONNREFUSED",))
    steps = client(MESSAGES, SHUTDOWN, refused)
    trace = run(plan(group("client", *steps, count=2, initiated=Initiated.GUEST)), agent)
    assert ends(trace) == {"served": 2}
    answered = [event for event in trace if event.what is What.ANSWERED and event.client == "client/0"]
    assert [event.op for event in answered] == ["ping", "messages", "shutdown", "connect", "ping"]
    assert answered[2].detail["own-write"] == "EPIPE"


def test_what_is_otherwise_is_told_and_ends_the_client(agent: Path) -> None:
    steps = client(Connect(to=Target.REFUSING, fails=("ECONNRESET",)))
    trace = run(plan(group("client", *steps, initiated=Initiated.GUEST)), agent)
    wrong = only(trace, "client/0", What.WRONG)
    assert (wrong.step, wrong.detail) == (1, {"expected": "ECONNRESET", "seen": "ECONNREFUSED"})


def test_a_host_without_leases_is_no_failure_of_the_system(agent: Path) -> None:
    if Path("/dev/vhost-vsock").exists():
        pytest.skip("there is a /dev/vhost-vsock here")
    trace = run(plan(group("client", Ping(), Connect(to=Target.NO_VM, fails=("ETIMEDOUT",)))), agent)
    assert "HostUnfit" in str(only(trace, "client/0", What.LOST).detail["process"])
