"""A proxy beside a pod: its command line, its lifetime, what is said when it goes; the VM is a puppet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from harness.agent import digest
from harness.guest.client import AgentClient, Hello
from harness.host.runfolder import RunFolder
from harness.link.connect import connect
from harness.model.deadline import Deadline, until_async
from harness.model.errors import DeadlinePassed, HostUnfit, InfrastructureError, SystemFailure, UsageError
from harness.model.link import Endpoint, Link
from harness.model.proxy import command, filled
from harness.run import beside, proxy
from harness.run.greeting import greet
from harness.run.pod import Pod
from harness.run.proxy import Proxy
from harness.vm.machine import Machine
from tests.unit.agents import HARNESS, serial_like_agent, yamux_agent
from tests.unit.hangs import HANGS
from tests.unit.images import image
from tests.unit.processes import reaped

KATA = "kata-proxy -listen-socket unix://{listen} -mux-socket {mux} -sandbox {id} -log debug"


def test_a_command_line_is_split_as_a_shell_does_and_filled() -> None:
    words = command("'/opt/my proxy' --from={listen} --to {mux} --name x{id}y")
    assert filled(words, listen="/run/a b", mux="/run/m", pod="pod-1") == [
        "/opt/my proxy",
        "--from=/run/a b",
        "--to",
        "/run/m",
        "--name",
        "xpod-1y",
    ]
    assert command(KATA)[-1] == "debug"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kata-proxy {listen}", "no {mux} in: kata-proxy {listen}"),
        ("", "no {listen} and no {mux} in: nothing"),
        ("p {listen} {mux} {idd}", "unknown {idd}; did you mean {id}?"),
        ("p {listen} {mux} {}", "unknown {}"),
        ("p '{listen} {mux}", "No closing quotation"),
    ],
)
def test_a_mistake_in_it_names_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError) as told:
        command(text)
    assert says in told.value.summary


def test_the_reference_proxy_gets_katas_flags(tmp_path: Path) -> None:
    (tmp_path / "proxy").touch()
    words = proxy.of_image(image(tmp_path, "proxy", kind="program"))
    assert shlex.join(filled(words, listen="/l", mux="/m", pod="p")) == (
        f"{tmp_path}/proxy -listen-socket unix:///l -mux-socket /m -sandbox p"
    )


class Puppet:
    """What of a machine a proxy's lifetime looks at."""

    def __init__(self, mux: Path | str) -> None:
        self.pid = 4711
        self._mux = str(mux)
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wrong: Exception | None = None

    @property
    def died(self) -> asyncio.Future[None]:
        return asyncio.shield(self._died)

    def endpoint(self, link: Link) -> Endpoint:
        assert link is Link.SERIAL_PROXY
        return Endpoint(link=link, path=self._mux)

    def die(self) -> None:
        self._died.set_result(None)

    def check(self) -> None:
        if self.wrong:
            raise self.wrong


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A puppet's end is known at once."""
    monkeypatch.setattr(beside, "SETTLE_SECONDS", 0.01)


Scenario = Callable[[Proxy, Puppet], Awaitable[None]]


def run(text: str, folder: RunFolder, log: Path, scenario: Scenario, mux: Path | str = "/no/mux") -> None:
    async def body() -> None:
        machine = Puppet(mux)
        words = command(text) if text else ()
        async with proxy.beside(cast(Machine, machine), words, folder, log) as running:
            await scenario(running, machine)

    asyncio.run(body())


SLEEPS = "sh -c 'echo {id} {mux}; exec sleep 1000' {listen}"


def test_it_lives_as_long_as_the_block_and_what_it_says_is_kept(folder: RunFolder, tmp_path: Path) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        pids.append(running.pid)
        assert not reaped(running.pid)
        assert running.endpoint.link is Link.SERIAL_PROXY
        assert Path(str(running.endpoint.path)).parent == folder.path
        await until_async(lambda: len(log.read_text().splitlines()) == 2, Deadline(HANGS), "its words")
        await running.check()

    pids: list[int] = []
    log = tmp_path / "proxy.log"
    run(SLEEPS, folder, tmp_path, scenario)
    assert reaped(pids[0])
    first, second = log.read_text().splitlines()
    assert first.startswith("sh -c 'echo pod-")
    assert second.endswith("/no/mux")


def test_one_that_ends_by_itself_is_a_failure_that_quotes_it(folder: RunFolder, tmp_path: Path) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        await running.ended()

    with pytest.raises(SystemFailure, match=r"the proxy \(process \d+\) ended by itself with 3") as told:
        run("sh -c 'echo boom >&2; exit 3' {listen} {mux}", folder, tmp_path, scenario)
    assert "boom" in told.value.detail


@pytest.mark.parametrize("expected", ["the VM ended", "allowed"])
def test_an_end_that_has_a_reason_is_none(folder: RunFolder, tmp_path: Path, expected: str) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        if expected == "allowed":
            running.allow_end()
        else:
            machine.die()
        os.kill(running.pid, signal.SIGKILL)
        await running.ended()
        await running.check()

    run(SLEEPS, folder, tmp_path, scenario)


def test_another_error_goes_first_and_notes_the_proxys(folder: RunFolder, tmp_path: Path) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        await running.ended()
        raise RuntimeError("the first")

    with pytest.raises(RuntimeError) as told:
        run("sh -c 'exit 3' {listen} {mux}", folder, tmp_path, scenario)
    assert "ended by itself with 3" in told.value.__notes__[0]


async def nothing(running: Proxy, machine: Puppet) -> None:
    raise AssertionError("it did not start")


def test_a_host_without_a_proxy_says_how_to_get_one(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(HostUnfit) as told:
        run("", folder, tmp_path, nothing)
    assert told.value.ability == "proxy"
    assert "images build proxy" in told.value.hint


def test_a_program_that_is_not_there_is_named(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no such program: kata-proxy"):
        run(KATA, folder, tmp_path, nothing)


SINGLE = Path(__file__).with_name("single_proxy.py")


def test_a_pod_is_greeted_through_its_proxy(folder: RunFolder, tmp_path: Path) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        agent = digest(str(HARNESS / "agent"))
        hello = await greet(cast(Machine, machine), Link.SERIAL_PROXY, agent, running)
        pod = Pod(cast(Machine, machine), hello, {}, running)
        assert pod.endpoint(Link.SERIAL_PROXY) == running.endpoint
        await pod.check()
        with connect(pod.endpoint(Link.SERIAL_PROXY)) as sock:
            assert AgentClient(sock).hello(deadline=Deadline(HANGS)).agent == agent

    with yamux_agent() as mux:
        run(f"python3 -I {SINGLE} {{mux}} {{listen}}", folder, tmp_path, scenario, mux)


def test_a_pod_without_a_proxy_has_no_such_link() -> None:
    pod = Pod(cast(Machine, None), cast(Hello, None), {})
    with pytest.raises(UsageError, match="made without serial-proxy"):
        pod.endpoint(Link.SERIAL_PROXY)


def test_a_proxy_that_ends_before_it_listens_is_not_waited_for(folder: RunFolder, tmp_path: Path) -> None:
    async def scenario(running: Proxy, machine: Puppet) -> None:
        await greet(cast(Machine, machine), Link.SERIAL_PROXY, "", running)

    with pytest.raises(SystemFailure, match="ended by itself with 3"):
        run("sh -c 'exit 3' {listen} {mux}", folder, tmp_path, scenario)


@pytest.mark.parametrize("kind", ["connection", "port"])
def test_the_agent_answers_a_ping_where_no_proxy_is_yet(kind: str) -> None:
    async def body(mux: Path) -> None:
        for _ in range(2):
            await proxy.ping(cast(Machine, Puppet(mux)), Deadline(HANGS))

    with yamux_agent() if kind == "connection" else serial_like_agent("mux") as mux:
        asyncio.run(body(mux))


def test_what_is_no_answer_to_a_ping_is_told(tmp_path: Path) -> None:
    async def pinged(answer: bytes | None) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                await reader.read(100)
                if answer is None:
                    await reader.read()  # until it has gone
                else:
                    writer.write(answer)
            served.set()

        path, served = tmp_path / "mux", asyncio.Event()
        server = await asyncio.start_unix_server(serve, path)
        try:
            await proxy.ping(cast(Machine, Puppet(path)), Deadline(0.2 if answer is None else 10))
        finally:
            await served.wait()
            server.close()
            path.unlink()

    with pytest.raises(SystemFailure, match=r"brought 010101010101010101010101, not 0002"):
        asyncio.run(pinged(b"\1" * 12))
    with pytest.raises(SystemFailure, match="the proxy's port: 0 bytes read"):
        asyncio.run(pinged(b""))
    with pytest.raises(DeadlinePassed):
        asyncio.run(pinged(None))
