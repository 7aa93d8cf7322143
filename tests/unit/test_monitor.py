"""The monitor against a fake QMP server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, InfrastructureError
from harness.vm.monitor import CommandFailed, Monitor, MonitorClosed, MonitorError
from harness.vm.network import ssh_port
from tests.unit.fake_qemu import FakeQemu
from tests.unit.hangs import HANGS

SOON = 0.05


@contextlib.asynccontextmanager
async def talking_to(transcript: Path, serve: Callable[[socket.socket], None]) -> AsyncIterator[Monitor]:
    """A monitor whose peer is `serve` in a thread, which is joined at the end."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        with theirs, contextlib.suppress(ConnectionError, SystemExit):
            serve(theirs)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        async with Monitor.connect(ours, transcript, Deadline(HANGS)) as monitor:
            yield monitor
    finally:
        thread.join(5)
        assert not thread.is_alive()


def fake(sock: socket.socket) -> None:
    FakeQemu(sock, []).serve()


def with_fake(tmp_path: Path, scenario: Callable[[Monitor], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with talking_to(tmp_path / "qmp.jsonl", fake) as monitor:
            return await scenario(monitor)

    return asyncio.run(run())


def test_a_disk_without_room_for_the_transcript_keeps_nobody_from_working(tmp_path: Path) -> None:
    (tmp_path / "qmp.jsonl").symlink_to("/dev/full")
    assert with_fake(tmp_path, lambda m: m.execute("x-echo", {"a": 1})) == {"a": 1}


def transcript(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "qmp.jsonl").read_text().splitlines()]


def test_qemu_says_its_version(tmp_path: Path) -> None:
    async def version(monitor: Monitor) -> str:
        return monitor.version

    assert with_fake(tmp_path, version) == "10.0.0 (fake)"


def test_answer_and_transcript(tmp_path: Path) -> None:
    wanted = {"guest-cid": 4711, "text": "ä"}
    assert with_fake(tmp_path, lambda m: m.execute("x-echo", wanted)) == wanted
    lines = transcript(tmp_path)
    assert [line["way"] for line in lines] == ["received", "sent", "received", "sent", "received"]
    assert lines[3]["message"]["execute"] == "x-echo"
    assert lines[4]["message"]["return"] == wanted
    assert lines[0]["at"] <= lines[4]["at"]


def test_error_keeps_its_parts(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as raised:
        with_fake(tmp_path, lambda m: m.execute("no-such", {"a": 1}))
    error = raised.value
    assert isinstance(error, InfrastructureError)
    assert (error.command, error.arguments, error.error_class) == ("no-such", {"a": 1}, "CommandNotFound")
    assert error.description == "The command no-such has not been found"
    assert '"a": 1' in str(error)


def test_an_error_leaves_the_monitor_working(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> None:
        with pytest.raises(CommandFailed):
            await monitor.execute("no-such")
        assert await monitor.execute("x-echo", {"still": "here"}) == {"still": "here"}

    with_fake(tmp_path, scenario)


def test_answers_find_their_callers(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> list[Any]:
        return await asyncio.gather(*(monitor.execute("x-echo", {"n": n}) for n in range(20)))

    assert with_fake(tmp_path, scenario) == [{"n": n} for n in range(20)]


def test_end_of_connection_within_and_after_a_command(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> None:
        before = monitor.closed
        with pytest.raises(MonitorClosed) as raised:
            await monitor.execute("x-exit", {"words": None})
        assert raised.value.command == "x-exit"
        assert (before, monitor.closed) == (False, True)
        with pytest.raises(MonitorClosed):
            await monitor.execute("x-echo")
        with pytest.raises(MonitorClosed):
            await monitor.send_fd(0, "null")

    with_fake(tmp_path, scenario)


def test_no_answer_in_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking_to(tmp_path / "qmp.jsonl", fake) as monitor:
            with pytest.raises(DeadlinePassed, match=r"QMP x-mute: no answer within 0\.1 s"):
                await monitor.execute("x-mute", deadline=Deadline(SOON))
            assert await monitor.execute("x-echo", {"after": "that"}) == {"after": "that"}

    asyncio.run(run())


def test_events_of_a_scope(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> None:
        await monitor.execute("x-event", {"name": "STOP", "too": "early"})
        with monitor.events("STOP", "RESUME") as events, monitor.events() as everything:
            for name in ("STOP", "OTHER", "RESUME"):
                await monitor.execute("x-event", {"name": name, "value": name.lower()})
            seen = [await events.get(Deadline(HANGS)) for _ in range(2)]
            assert [(e["event"], e["data"]["value"]) for e in seen] == [
                ("STOP", "stop"),
                ("RESUME", "resume"),
            ]
            with pytest.raises(DeadlinePassed, match="STOP or RESUME"):
                await events.get(Deadline(SOON))
            assert [(await everything.get(Deadline(HANGS)))["event"] for _ in range(3)] == [
                "STOP",
                "OTHER",
                "RESUME",
            ]

    with_fake(tmp_path, scenario)


def test_waiting_for_an_event_ends_with_the_connection(tmp_path: Path) -> None:
    async def scenario(monitor: Monitor) -> None:
        with monitor.events() as events:
            waiting = asyncio.create_task(events.get(Deadline(HANGS)))
            with pytest.raises(MonitorClosed):
                await monitor.execute("x-close")
            assert (await waiting)["event"] == "LAST"  # what came before the end is not lost
            with pytest.raises(MonitorClosed, match="any event"):
                await events.get(Deadline(HANGS))

    with_fake(tmp_path, scenario)


def test_a_descriptor_arrives_and_stays_ours(tmp_path: Path) -> None:
    received, given = os.pipe()

    async def scenario(monitor: Monitor) -> None:
        await monitor.send_fd(given, "vhost")
        await monitor.execute("device_add", {"guest-cid": 3, "vhostfd": "vhost"})

    try:
        with_fake(tmp_path, scenario)
        assert os.read(received, 100) == b"QEMU has it"
        os.write(given, b"ours too")
        assert os.read(received, 100) == b"ours too"
    finally:
        os.close(received)
        os.close(given)


def start_with(tmp_path: Path, first_bytes: bytes) -> None:
    async def run() -> None:
        async with talking_to(tmp_path / "qmp.jsonl", lambda sock: sock.sendall(first_bytes)):
            pytest.fail("connected")

    asyncio.run(run())


def test_peer_that_closes_before_its_greeting(tmp_path: Path) -> None:
    with pytest.raises(MonitorClosed, match="before the session stood"):
        start_with(tmp_path, b"")


@pytest.mark.parametrize("greeting", [b'{"hello": 1}\n', b"SSH-2.0\n"])
def test_peer_that_does_not_speak_qmp(tmp_path: Path, greeting: bytes) -> None:
    with pytest.raises(MonitorError) as raised:
        start_with(tmp_path, greeting)
    assert not isinstance(raised.value, MonitorClosed)


def test_peer_without_a_greeting(tmp_path: Path) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            async with Monitor.connect(ours, tmp_path / "qmp.jsonl", Deadline(SOON)):
                pytest.fail("connected")

    with pytest.raises(DeadlinePassed, match="greeting"):
        asyncio.run(run())


USERNET = (
    "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "{line}"
)


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("  TCP[HOST_FORWARD]  14       127.0.0.1 38557       10.0.2.15    22     0     0\r\n", 38557),
        ("  TCP[ESTABLISHED]   14       127.0.0.1 38557       10.0.2.15    22     0     0\r\n", None),
    ],
)
def test_ssh_port(line: str, port: int | None) -> None:
    class Answers:
        async def execute(self, command: str, arguments: dict[str, str]) -> str:
            assert (command, arguments) == ("human-monitor-command", {"command-line": "info usernet"})
            return USERNET.format(line=line)

    if port is not None:
        assert asyncio.run(ssh_port(Answers())) == port  # type: ignore[arg-type]
    else:
        with pytest.raises(InfrastructureError, match="no port"):
            asyncio.run(ssh_port(Answers()))  # type: ignore[arg-type]
