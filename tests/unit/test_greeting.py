"""The first words with an agent; a real one answers, in a process of its own, and the VM is a puppet."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import cast

import msgspec
import pytest

from harness.agent import digest, facts
from harness.guest.client import AgentClient, Hello
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from harness.model.link import Endpoint, Link
from harness.run import greeting
from harness.vm.machine import Machine
from tests.unit import broken
from tests.unit.agents import HARNESS, serial_like_agent, unix_agent
from tests.unit.hangs import HANGS
from tests.unit.running import endpoint


class Puppet:
    """A VM that is well, its agent behind a Unix socket."""

    def __init__(self, agent: Path) -> None:
        self.died = asyncio.get_running_loop().create_future()
        self._agent = agent

    def endpoint(self, link: Link) -> Endpoint:
        """The agent's."""
        return Endpoint(link=link, path=str(self._agent))

    def check(self) -> None:
        """Nothing is wrong."""


def test_a_guest_is_asked_until_it_has_read_its_new_cid(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | None] = []
    said = [None, 5, 7, 9]
    real = AgentClient.hello

    def hello(client: AgentClient, *, sole: bool = False, deadline: Deadline | None = None) -> Hello:
        answers.append(said[len(answers)])
        return msgspec.structs.replace(real(client, deadline=deadline), cid=answers[-1])

    async def greeted() -> Hello:
        puppet = cast(Machine, Puppet(agent))
        return await greeting.greet(puppet, Link.VIRTIO_SERIAL, digest(str(HARNESS / "agent")), cid=7)

    monkeypatch.setattr(AgentClient, "hello", hello)
    with unix_agent() as agent:
        assert asyncio.run(greeted()).cid == 7
    assert answers == [None, 5, 7]


@pytest.mark.parametrize(
    ("answer", "cid"),
    [(struct.pack("=I", 77), 77), (struct.pack("=I", socket.VMADDR_CID_ANY), None), (OSError(), None)],
)
def test_the_agent_tells_the_cid_that_its_kernel_has(
    answer: bytes | OSError, cid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(device: int, request: int, argument: bytes) -> bytes:
        assert (request, len(argument)) == (socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, 4)
        if isinstance(answer, OSError):
            raise answer
        return answer

    opened: list[int] = []
    real = os.open

    def device(path: str, flags: int) -> int:
        assert path == "/dev/vsock"
        opened.append(real(os.devnull, flags))
        return opened[-1]

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "open", device)
    assert facts._cid() == cid
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_machine_without_vsock_has_no_cid(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str, flags: int) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "open", absent)
    assert facts._cid() is None


def test_a_port_is_drained_of_late_answers(serial: Path) -> None:
    where = endpoint(serial)
    with AgentClient(connect(where)) as asker:
        asker.ask_later(b"x" * 100, deadline=Deadline(HANGS))
        asker.hello(deadline=Deadline(HANGS))
    with AgentClient(connect(where)) as asker:
        asker.ask_later(b"x" * 100, deadline=Deadline(HANGS))
    greeting.drain(where)
    with AgentClient(connect(where)) as client:
        client.hello(deadline=Deadline(HANGS))


def test_a_port_that_has_no_end_of_late_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "slowness", lambda: 0.02)
    with serial_like_agent("port", broken.ALWAYS_HAS_A_STALE_ANSWER) as path:
        with pytest.raises(DeadlinePassed, match="a port without stale replies"):
            greeting.drain(endpoint(path))
