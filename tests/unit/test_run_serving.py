"""Programs of a scenario in a pod: what it needs, and when they are up; a real agent stands for the pod."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from harness.guest.client import AgentClient
from harness.host.runfolder import RunFolder
from harness.image import recipe
from harness.lab.keys import Keys
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, SystemFailure
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.program import ProgramName, ProgramPlan, Tool
from harness.run import programs, serving
from harness.run.control import Tool as Words
from tests.unit import traces
from tests.unit.agents import unix_agent
from tests.unit.hangs import HANGS
from tests.unit.test_programs import image, root

__all__ = ["image", "root"]

NBDKIT = traces.plan("multiple-clients-nbdkit", "vsock")
QEMU_GA = {link: traces.plan("multiple-clients-qemu-ga", link) for link in ("virtio-serial", "isa-serial")}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path) as folder:
        yield folder


@pytest.fixture
def agent() -> Iterator[Endpoint]:
    with unix_agent() as path:
        yield Endpoint(link=Link.VIRTIO_SERIAL, path=str(path))


def test_the_names_are_those_of_the_image() -> None:
    assert sorted(ProgramName) == sorted(recipe.load("programs").programs)


def test_what_a_pod_needs() -> None:
    plain = traces.plan("multiple-clients-8", "isa-serial")
    assert serving.links(plain) == {Link.ISA_SERIAL}
    assert serving.links(NBDKIT) == {Link.VSOCK}
    for link, plan in QEMU_GA.items():
        assert serving.links(plan) == {Link(link), Link.VSOCK}


def test_the_words_of_each_tool(tmp_path: Path) -> None:
    vsock, serial = Endpoint(link=Link.VSOCK, cid=7, port=22), Endpoint(link=Link.ISA_SERIAL, path="/s")
    assert serving.argv(Tool.SOCAT, vsock) == ["socat", "-", "VSOCK-CONNECT:7:22"]
    assert serving.argv(Tool.SOCAT, serial) == ["socat", "-", "UNIX-CONNECT:/s"]
    assert serving.argv(Tool.NBDCOPY, vsock) == ["nbdcopy", "--connections=1", "nbd+vsock://7:22", "-"]
    (tmp_path / "host.pub").write_text("ssh-ed25519 AAAA somebody\n")
    words = serving.argv(Tool.SSH, vsock, Keys(user=tmp_path / "user", host=tmp_path / "host"))
    assert "-oProxyCommand=socat - VSOCK-CONNECT:7:22" in words
    assert "-oStrictHostKeyChecking=yes" in words
    assert words[-2:] == ["root@pod", "exec busybox cat"]
    assert (tmp_path / "known_hosts").read_text() == "pod ssh-ed25519 AAAA\n"


def with_program(run: tuple[str, ...]) -> Plan:
    """nbdkit's plan, with something else in its place."""
    program = msgspec.structs.replace(NBDKIT.programs[0], run=run)
    return msgspec.structs.replace(NBDKIT, programs=(program,))


def served(plan: Plan, folder: RunFolder, log: Path, agent: Endpoint, image: Any) -> dict[str, Words]:
    """Enter and leave `serving.served` for a pod whose agent, and whose program's port, is `agent`."""

    async def enter() -> dict[str, Words]:
        pod = cast(Any, SimpleNamespace(endpoint=lambda link: agent))
        place = cast(Any, SimpleNamespace(folder=folder, programs=image))
        async with serving.served(plan, pod, place, log) as tools:
            return tools

    return asyncio.run(enter())


@pytest.fixture
def has_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.fixture
def nbdkit(image: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An image in which the program that stays is called nbdkit."""
    monkeypatch.setattr(serving, "_BUSYBOX", programs._BUSYBOX)
    (image.path / "nbdkit.tar").write_bytes((image.path / "stays.tar").read_bytes())
    return image


def test_programs_run_before_the_clients_and_end_after_them(
    folder: RunFolder, tmp_path: Path, agent: Endpoint, nbdkit: Any, has_tools: None
) -> None:
    tools = served(with_program(("/usr/bin/stays", "a word")), folder, tmp_path, agent, nbdkit)
    assert tools.keys() == {"here", "there"}
    assert tools["here"].argv[:2] == ("nbdcopy", "--connections=1")
    assert tools["here"].env == folder.mark
    assert (tmp_path / "nbdkit.log").read_text() == "a word\n"


def wait_for(program: ProgramPlan, agent: Endpoint, log: Path) -> None:
    """Run a program until it has ended by itself, and wait for it to be up."""
    with programs.running(agent, program.run, log) as container:
        container.wait(deadline=Deadline(HANGS))
        serving._up(program, agent, agent, container.pid, "")


def test_a_program_that_ends_at_once_is_told_with_its_words(
    tmp_path: Path, agent: Endpoint, nbdkit: Any
) -> None:
    program = ProgramPlan(name=ProgramName.NBDKIT, run=("/usr/bin/ends",), port=1)
    with AgentClient(connect(agent)) as client:
        programs.install(client, nbdkit, ["ends"], {})
    with pytest.raises(SystemFailure, match="nbdkit ended by itself before any client came") as told:
        wait_for(program, agent, tmp_path / "log")
    assert told.value.__notes__ == ["/usr/bin/ends said: oh no"]


def test_a_host_without_the_image_or_a_tool_is_unfit(
    folder: RunFolder, tmp_path: Path, agent: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(HostUnfit, match="nbdcopy is not installed"):
        served(NBDKIT, folder, tmp_path, agent, None)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(HostUnfit, match="no image of programs"):
        served(NBDKIT, folder, tmp_path, agent, None)


def test_without_programs_nothing_is_asked_for(folder: RunFolder, tmp_path: Path, agent: Endpoint) -> None:
    assert served(traces.plan("multiple-clients-8", "vsock"), folder, tmp_path, agent, None) == {}


def test_a_program_is_up_when_it_listens_and_has_its_port_open(
    agent: Endpoint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_BUSYBOX", programs._BUSYBOX)
    program = ProgramPlan(name=ProgramName.SOCAT, run=("x",), port=1)
    own, end = tmp_path / "port", Endpoint(link=Link.VIRTIO_SERIAL, path=str(tmp_path / "s"))
    own.touch()
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(["sleep", "1000"], stdin=stack.enter_context(own.open()))
        )
        stack.callback(process.kill)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        waiting = threading.Thread(target=serving._up, args=(program, end, agent, process.pid, ""))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        listener.listen(1)
        waiting.join(60)
        assert not waiting.is_alive()
        client = stack.enter_context(AgentClient(connect(agent)))
        assert serving._runs(client, process.pid, str(own), Deadline(HANGS))
        assert not serving._runs(client, process.pid, str(own)[:-1], Deadline(HANGS))
