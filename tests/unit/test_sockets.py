"""Sockets that the agent makes: dialled to the host or listened on; Unix sockets stand in for vsock."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.agent.seeded import Seeded
from harness.agent.wire import Kind
from harness.guest.client import AgentClient
from harness.guest.errors import AgentError
from harness.guest.sockets import AgentSockets
from harness.link.connect import connect
from harness.link.listen import listening
from harness.model.deadline import Deadline, until
from harness.model.link import Endpoint, Link
from harness.model.plan import Initiated
from harness.model.steps import Echo, SocketType
from harness.model.trace import What
from harness.run.dialled import dialled
from tests.unit.agents import reference_proxy, serial_like_agent, unix_agent
from tests.unit.hangs import HANGS
from tests.unit.peers import Peer
from tests.unit.running import endpoint, ends, group, only, plan, run

BYTES = 100_000


@pytest.fixture(scope="module")
def agent() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


def soon() -> Deadline:
    return Deadline(HANGS)


def asked(path: Path) -> AgentSockets:
    return AgentSockets(connect(endpoint(path)))


def beside(path: Path) -> list[Path]:
    """The sockets that were made beside the agent's."""
    return sorted(path.parent.glob(f"{path.name}_*"))


def dial(path: Path, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """What the host's connect() to a port of the guest is on vsock."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.connect(f"{path}_{port}")
    return sock


# Connections that the guest opens


def test_the_guest_opens_a_connection_and_the_agent_serves_it(agent: Path) -> None:
    with dialled(endpoint(agent), 1.0) as connection, AgentClient(connection) as client:
        assert connection.getblocking()
        client.echo(os.urandom(BYTES), deadline=soon())
        assert client.hello(deadline=soon()).channel == "unix"
        assert client.run(["true"], deadline=soon()).code == 0
    assert not beside(agent)


def test_the_container_of_a_client_that_was_dialled_ends_with_it(agent: Path) -> None:
    with AgentClient(dialled(endpoint(agent), 1.0)) as client:
        pid = client.start(["sleep", "1000"], deadline=soon()).pid
    until(lambda: not Path(f"/proc/{pid}").exists(), soon(), "the container's end", every=0.01)


def test_a_port_that_is_held_refuses_until_it_listens(agent: Path) -> None:
    with listening(endpoint(agent), refusing=True) as held, asked(agent) as sockets:
        assert sockets.dial(held.port, deadline=soon()) == "ECONNREFUSED"
    with asked(agent) as sockets:
        assert sockets.dial(held.port, deadline=soon()) == "ENOENT"


def test_two_who_listen_have_two_ports(agent: Path) -> None:
    with listening(endpoint(agent)) as one, listening(endpoint(agent)) as other:
        assert one.port != other.port
        assert len(beside(agent)) == 2


class Vsock:
    """A listening AF_VSOCK socket: another guest dials before ours does."""

    bound: tuple[object, ...] = ()

    def __init__(self) -> None:
        self.ours, self.others = socket.socketpair(), socket.socketpair()
        self._queue = [(self.others[0], (99, 5)), (self.ours[0], (42, 5))]

    def __enter__(self) -> Vsock:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self.ours, *self.others):
            sock.close()

    def bind(self, address: tuple[int, int]) -> None:
        self.bound = address

    def listen(self, backlog: int) -> None:
        self.listens = backlog

    def getsockname(self) -> tuple[int, int]:
        return (2, 777)

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        return self._queue.pop(0)


def test_on_vsock_the_kernel_chooses_the_port_and_other_guests_are_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vsock = Vsock()
    made: list[tuple[int, int]] = []

    def make(family: int, kind: int) -> Vsock:
        made.append((family, kind))
        return vsock

    monkeypatch.setattr("socket.socket", make)
    with listening(Endpoint(link=Link.VSOCK, cid=42), SocketType.SEQPACKET) as listener:
        assert made == [(socket.AF_VSOCK, socket.SOCK_SEQPACKET)]
        assert vsock.bound == (socket.VMADDR_CID_HOST, socket.VMADDR_PORT_ANY)
        assert listener.port == 777
        assert listener.accept() is vsock.ours[0]
        assert vsock.others[0].fileno() == -1
        assert vsock.others[1].recv(1) == b"", "another guest's connection was closed"


def test_clients_of_a_plan_that_the_guest_dials(agent: Path) -> None:
    mixed = plan(
        group("dialled", Echo(bytes=BYTES), count=4, initiated=Initiated.GUEST),
        group("dialling", Echo(bytes=BYTES), count=2),
    )
    trace = run(mixed, agent)
    assert ends(trace) == {"served": 6}
    assert only(trace, "dialled/3", What.CONNECTED).detail == {"initiated": "guest"}
    assert only(trace, "dialling/0", What.CONNECTED).detail == {"initiated": "host"}
    assert not beside(agent)


def test_where_there_is_no_agent_the_client_is_refused(tmp_path: Path) -> None:
    trace = run(plan(group("client", Echo(bytes=1), initiated=Initiated.GUEST)), tmp_path / "none")
    assert only(trace, "client/0", What.REFUSED).detail["errno"] == "ENOENT"


def test_an_agent_that_cannot_dial_has_its_errno_told(agent: Path, tmp_path: Path) -> None:
    """The agent dials beside its own socket; this client listens beside another name of it."""
    (tmp_path / "elsewhere").symlink_to(agent)
    trace = run(
        plan(group("client", Echo(bytes=1), initiated=Initiated.GUEST)), endpoint(tmp_path / "elsewhere")
    )
    seen = only(trace, "client/0", What.REFUSED).detail
    assert (seen["errno"], seen["error"]) == ("ENOENT", "the guest's connect() failed with ENOENT")


@pytest.mark.parametrize("kind", ["port", "tty", "mux"])
def test_over_a_serial_port_the_agent_makes_no_sockets(kind: Any) -> None:
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(serial_like_agent(kind))
        if kind == "mux":
            path, _ = stack.enter_context(reference_proxy(path))
        for ask in ("dial", "listen"):
            with asked(path) as sockets, pytest.raises(AgentError) as refusal:
                sockets.dial(1) if ask == "dial" else sockets.listen()
            assert refusal.value.code == "no-connection"
        trace = run(plan(group("client", Echo(bytes=1), initiated=Initiated.GUEST)), path)
    assert "no-connection" in str(only(trace, "client/0", What.WRONG).detail["seen"])


@pytest.mark.parametrize(
    "wish",
    [
        {"type": "rdm"},
        {"does": "listen"},
        {"cid": 1 << 32},
        {"port": 1 << 32},
        {"patience": 1 << 40},
        {"prot": 1},
        {"port": -1},
    ],
)
def test_what_there_is_not_is_refused(agent: Path, wish: dict[str, Any]) -> None:
    with Peer(agent) as peer:
        answer = peer.ask(Kind.DIAL, 1, wish)
        assert answer["code"] == "bad-request", json.dumps(answer)
        assert peer.ask(Kind.DIAL, 2, {"port": 1})["errno"] == "ENOENT"


def test_the_agent_reaches_only_the_host(agent: Path) -> None:
    with asked(agent) as sockets:
        assert sockets.dial(1, cid=77, deadline=soon()) == "ENODEV"


# Raw sockets: what the agent does on them


def test_echo_keeps_the_bounds_of_messages(agent: Path) -> None:
    with asked(agent) as sockets:
        port = sockets.listen(SocketType.SEQPACKET, "echo", deadline=soon())
        with dial(agent, port, socket.SOCK_SEQPACKET) as raw:
            for piece in (b"a", b"bb" * 1000, b"c"):
                raw.sendall(piece)
            assert [raw.recv(1 << 17) for _ in range(3)] == [b"a", b"bb" * 1000, b"c"]
        came = sockets.came(deadline=soon())
    assert (came.bytes, came.messages, came.wrong, came.errno) == (2002, 3, None, None)


def test_half_closed_the_answer_still_comes(agent: Path) -> None:
    with asked(agent) as sockets:
        port = sockets.listen(does="half-close", seed=7, total=BYTES, deadline=soon())
        with dial(agent, port) as raw:
            raw.sendall(Seeded(7, BYTES).piece(0, BYTES))
            assert not select.select([raw], [], [], 0)[0], "no answer before the end was read"
            raw.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer == Seeded(8, BYTES).piece(0, BYTES)
        came = sockets.came(deadline=soon())
    assert (came.bytes, came.wrong) == (BYTES, None)


def test_wrong_bytes_are_told(agent: Path) -> None:
    with asked(agent) as sockets:
        port = sockets.listen(does="half-close", seed=7, total=10, deadline=soon())
        with dial(agent, port) as raw:
            raw.sendall(b"\0" * 10)
            raw.shutdown(socket.SHUT_WR)
        wrong = sockets.came(deadline=soon()).wrong
    assert wrong is not None
    assert wrong["at"] == 0


def test_a_deaf_end_is_not_written_to(agent: Path) -> None:
    with asked(agent) as sockets:
        with dial(agent, sockets.listen(does="deaf", deadline=soon())) as raw:
            assert raw.recv(10) == b"d"
            with pytest.raises(BrokenPipeError):
                raw.sendall(b"x")


def test_the_agent_writes_to_a_deaf_end(agent: Path) -> None:
    with asked(agent) as sockets:
        with dial(agent, sockets.listen(does="write", deadline=soon())) as raw:
            raw.shutdown(socket.SHUT_RD)
            raw.sendall(b"x")
            assert sockets.came(deadline=soon()).errno == "EPIPE"


def test_what_was_made_ends_with_who_asked(agent: Path) -> None:
    with AgentClient(connect(endpoint(agent))) as counting:
        before = counting.facts(deadline=soon())
        with asked(agent) as waiting, asked(agent) as held, asked(agent) as deaf:
            waiting.listen(deadline=soon())
            held.listen(does="nothing", deadline=soon())
            raw = dial(agent, deaf.listen(does="deaf", deadline=soon()))
            assert raw.recv(10) == b"d"
        with raw:
            assert raw.recv(1) == b""
        until(
            lambda: counting.facts().threads <= before.threads and counting.facts().fds <= before.fds,
            soon(),
            "no more threads and descriptors than before",
            every=0.01,
        )
    until(lambda: not beside(agent), soon(), "no sockets left", every=0.01)
