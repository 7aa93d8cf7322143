"""The client of the agent: what it asks of one, over a connection or a serial port."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent import digest
from harness.agent.wire import WIRE_VERSION, Frame, Kind, encode
from harness.guest.client import AgentClient, AgentError, Completed, StaleReply
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed
from tests.unit.agents import HARNESS, serial_like_agent
from tests.unit.puppets import connect, soon


@pytest.fixture(scope="module", params=["many", "port", "tty"])
def any_agent(request: pytest.FixtureRequest, many: Path) -> Iterator[Path]:
    if request.param == "many":
        yield many
        return
    with serial_like_agent(request.param) as path:
        yield path


def test_hello_and_facts(many: Path) -> None:
    with connect(many) as client:
        hello = client.hello(deadline=soon())
        assert (hello.agent, hello.wire) == (digest(str(HARNESS / "agent")), WIRE_VERSION)
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
