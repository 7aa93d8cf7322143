"""The real proxy between real clients and a real agent: skipped where its image is not built."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.guest.client import AgentClient, ConnectionLost
from harness.judge import judge
from harness.model.deadline import Deadline, until
from harness.model.link import Endpoint, Link
from harness.run.nursery import Nursery
from tests.unit.agents import reference_proxy, serial_like_agent, yamux_agent
from tests.unit.hangs import HANGS
from tests.unit.running import run
from tests.unit.traces import SCENARIOS, loaded, plan

Process = subprocess.Popen[bytes]


@pytest.fixture
def mux() -> Iterator[Path]:
    with yamux_agent() as path:
        yield path


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """One proxy for the tests that leave it as it was."""
    with yamux_agent() as path, reference_proxy(path, "-log", "debug", "-sandbox", "unit") as (proxy, _):
        yield proxy


def connect(path: Path) -> AgentClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return AgentClient(sock)


def soon() -> Deadline:
    return Deadline(HANGS)


def test_a_client_is_served_through_it(shared: Path) -> None:
    with connect(shared) as client:
        assert client.hello(deadline=soon()).channel == "unix"
        client.echo(os.urandom(3 << 20), deadline=soon())
        client.send(7, 3 << 20, deadline=soon())
        client.receive(7, 3 << 20, deadline=soon())
        done = client.run(["sh", "-c", "cat; exit 3"], stdin=os.urandom(1 << 20), deadline=soon())
        assert (done.code, len(done.stdout)) == (3, 1 << 20)


def test_fifty_clients_at_once(shared: Path) -> None:
    def work(number: int) -> None:
        with connect(shared) as client:
            client.echo(bytes([number]) * (256 << 10), deadline=soon())

    with ThreadPoolExecutor(50) as pool:
        assert len(list(pool.map(work, range(50)))) == 50


def test_clients_that_stop_reading_stall_no_other(shared: Path) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stalled = stack.enter_context(connect(shared))
            stalled.receive(1, 64 << 20, stop_after=1, deadline=soon())
        other = stack.enter_context(connect(shared))
        other.echo(os.urandom(2 << 20), deadline=soon())
        other.receive(2, 2 << 20, deadline=soon())
        sessions = other.facts(deadline=soon()).sessions
        assert sessions >= 6
    with connect(shared) as client:  # and once they leave, nothing of them is left
        until(lambda: client.facts(deadline=soon()).sessions == 1 or None, soon(), "the sessions' end")


def test_a_client_that_leaves_ends_its_container_alone(shared: Path) -> None:
    with connect(shared) as client:
        client.start(["sleep", "1000"], deadline=soon())
        with connect(shared) as other:
            other.start(["sleep", "1000"], deadline=soon())
            assert client.facts(deadline=soon()).containers == 2
        until(lambda: client.facts(deadline=soon()).containers == 1 or None, soon(), "the container's end")


def lost(client: AgentClient) -> str:
    with pytest.raises(ConnectionLost) as told:
        client.hello(deadline=soon())
    return told.value.why


def test_a_killed_proxy_loses_all_its_clients_and_the_next_one_serves(mux: Path) -> None:
    with reference_proxy(mux) as (path, process):
        clients = [connect(path) for _ in range(4)]
        pid = clients[0].run(["sh", "-c", "echo $PPID"], deadline=soon()).stdout
        clients[0].start(["sleep", "1000"], deadline=soon())
        clients[1].receive(1, 64 << 20, stop_after=1, deadline=soon())
        process.kill()
        assert {lost(client) for client in (clients[0], *clients[2:])} <= {"eof", "ECONNRESET", "EPIPE"}
    with reference_proxy(mux) as (path, _), connect(path) as client:
        until(lambda: client.facts(deadline=soon()).sessions == 1, soon(), "the end of the lost clients")
        assert client.facts(deadline=soon()).containers == 0
        assert client.run(["sh", "-c", "echo $PPID"], deadline=soon()).stdout == pid, "the same agent"
    for left in clients:
        left.close()


def test_a_proxy_on_a_port_can_be_replaced_too() -> None:
    with serial_like_agent("mux") as mux:
        for _ in range(3):
            with reference_proxy(mux) as (path, process), connect(path) as client:
                client.echo(bytes(1000), deadline=soon())
                assert client.hello(deadline=soon()).channel == "/dev/vport0p1"
                assert client.facts(deadline=soon()).sessions == 1
                process.kill()
                process.wait()


def test_sigterm_ends_it_in_order(mux: Path) -> None:
    with reference_proxy(mux) as (path, process):
        client = connect(path)
        client.hello(deadline=soon())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not path.exists()
        assert lost(client) in ("eof", "ECONNRESET", "EPIPE")
        client.close()


def test_it_ends_when_the_port_does(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mux"))
        listener.listen(1)
        with reference_proxy(tmp_path / "mux", "-sandbox", "pod-1") as (path, process):
            with connect(path) as client:
                port, _ = listener.accept()
                port.close()
                assert process.wait(10) == 1
                said = path.with_name("log").read_text()
                # whichever it meets first: the port's end, or that the client's stream can't be opened
                assert "proxy pod-1: " in said
                ends = ("the serial port's session has ended", "broken pipe", "session shutdown")
                assert any(words in said for words in ends)
                assert lost(client) in ("eof", "ECONNRESET", "EPIPE")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["-log", "loud"], 1, "want debug, info, warn or error"),
        (["-mux-socket", "/no/such"], 1, "-mux-socket: dial unix /no/such"),
        (["-mux-socket", ""], 2, "-mux-socket"),
        (["-bogus"], 2, "flag provided but not defined: -bogus"),
    ],
)
def test_wrong_options_are_said(mux: Path, options: list[str], code: int, says: str) -> None:
    with reference_proxy(mux) as (path, process):
        argv = [
            str(Path(f"/proc/{process.pid}/exe").readlink()),
            "-mux-socket",
            str(mux),
            "-listen-socket",
            str(path.with_name("t")),
            *options,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=HANGS)
    assert done.returncode == code
    assert says in done.stderr


PROXIED = [
    path.stem
    for path in sorted(SCENARIOS.glob("*.yaml"))
    if Link.SERIAL_PROXY in loaded(path.stem).links
    and path.stem != "serial-second-opener"  # wants a guest
    and loaded(path.stem).for_link(Link.SERIAL_PROXY).fault is None  # wants a VM
]


UNHURRIED = 8.0
"""All are served at last, so nobody has to be believed waiting, on a busy machine either."""


@pytest.mark.parametrize("scenario", PROXIED)
def test_our_scenarios_hold_behind_it(shared: Path, scenario: str) -> None:
    on_link = plan(scenario, Link.SERIAL_PROXY)
    with Nursery() as nursery:
        trace = run(on_link, Endpoint(link=Link.SERIAL_PROXY, path=str(shared)), nursery, slowness=UNHURRIED)
    verdict = judge(on_link, trace)
    assert verdict.passed, verdict.differences
