"""How the agent gets into a guest: a distribution's own is sent it by SSH, and started by its systemd."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest

from harness.agent import digest
from harness.guest import inject
from harness.lab import keys
from harness.lab.address import Address
from harness.lab.keys import Keys
from harness.lab.ssh import Ssh
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, InfrastructureError
from harness.run import sshd
from harness.run.arrival import Arrival
from harness.vm.machine import Machine
from tests.unit.hangs import HANGS


class Guest:
    """Takes files as a host reached by SSH does: what is there already isn't sent again."""

    def __init__(self) -> None:
        self.there: dict[PurePosixPath, bytes] = {}
        self.ran: list[list[str]] = []

    def push(self, folder: Path, target: PurePosixPath, files: list[Path]) -> int:
        wanted = {target / name: (folder / name).read_bytes() for name in files}
        sent = {name: data for name, data in wanted.items() if self.there.get(name) != data}
        self.there |= sent
        return len(sent)

    def run(self, argv: list[str]) -> str:
        self.ran.append(argv)
        return ""


def ssh(guest: Guest) -> Ssh:
    return cast(Ssh, cast(Any, guest))


def test_the_agents_folder_is_named_by_its_hash_and_sent_once(tmp_path: Path) -> None:
    guest = Guest()
    folder, sent = sshd.send(ssh(guest), PurePosixPath("/opt/x"))
    assert folder == PurePosixPath("/opt/x", inject.expected_digest())
    assert sent == len(list(inject.AGENT.glob("*.py")))
    assert sshd.send(ssh(guest), PurePosixPath("/opt/x")) == (folder, 0)
    for name, data in guest.there.items():
        (tmp_path / name.name).write_bytes(data)
    assert digest(str(tmp_path)) == folder.name


def test_it_is_started_as_a_service_from_that_folder() -> None:
    guest = Guest()
    sshd.start(ssh(guest), PurePosixPath("/opt/x/abc"))
    (argv,) = guest.ran
    assert argv[0] == "systemd-run"
    assert argv[-6:] == inject.command(PurePosixPath("/opt/x/abc"))
    assert "sys.path.insert(0, '/opt/x/abc')" in argv[-1]


def test_the_words_really_start_an_agent(tmp_path: Path) -> None:
    words = inject.command(PurePosixPath(inject.AGENT.parent))
    argv = [sys.executable, *words[1:], "--unix", str(tmp_path / "s")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        said = agent.stdout.readline()
        agent.kill()
    assert said.strip() == inject.READY


class Booting:
    """A VM whose guest's sshd answers at the third look; its console says what the agent says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guest = Guest()
        self.said: list[str] = []
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.monitor = self.console = self
        self._answers = [False, False, True]
        monkeypatch.setattr(sshd, "answers", self.answers)
        monkeypatch.setattr(Ssh, "connect", self.connect)
        until = vars(sshd)["until"]
        monkeypatch.setattr(sshd, "until", lambda *args, every: until(*args, every=0.01))

    @property
    def machine(self) -> Machine:
        return cast(Machine, cast(Any, self))

    async def execute(self, *_: object) -> str:
        """Of the user-mode network; QEMU's own words."""
        return "  TCP[HOST_FORWARD]  13       127.0.0.1 40001       10.0.2.15    22     0     0\n"

    def answers(self, where: Address, deadline: Deadline) -> bool:
        self.said.append(f"look at {where.host}:{where.port}")
        return self._answers.pop(0) if self._answers else False

    @contextlib.contextmanager
    def connect(self, where: Address) -> Iterator[Guest]:
        self.said.append(f"ssh to {where.user} at {where.port}")
        yield self.guest

    async def wait_for(self, text: str, deadline: Deadline, check: Callable[[], object]) -> None:
        self.said.append(text)

    def check(self) -> None:
        if self.died.done():
            raise InfrastructureError("it ended")


@pytest.fixture
def pair(tmp_path: Path) -> Keys:
    return keys.ensure(tmp_path / "keys")


def test_ours_brings_it_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async def arrives() -> list[str]:
        booting = Booting(monkeypatch)
        await Arrival().awaited(booting.machine, Deadline(HANGS))
        await Arrival().again(booting.machine, Deadline(HANGS))
        return booting.said

    assert asyncio.run(arrives()) == [inject.READY]


def test_a_distributions_is_sent_it_once_its_sshd_answers(
    pair: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def arrives() -> Booting:
        booting = Booting(monkeypatch)
        await Arrival(pair).awaited(booting.machine, Deadline(HANGS))
        return booting

    booting = asyncio.run(arrives())
    look = "look at 127.0.0.1:40001"
    assert booting.said == [look, look, look, "ssh to root at 40001", inject.READY]
    assert {path.parent for path in booting.guest.there} == {sshd.BASE / inject.expected_digest() / "agent"}
    ((program, *_),) = booting.guest.ran
    assert program == "systemd-run"


def test_who_ended_is_not_waited_for(pair: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def arrives() -> None:
        booting = Booting(monkeypatch)
        booting._answers.clear()
        asyncio.get_running_loop().call_later(0.1, booting.died.set_result, None)
        await Arrival(pair).awaited(booting.machine, Deadline(HANGS))

    with pytest.raises(InfrastructureError, match="it ended"):
        asyncio.run(arrives())


def test_an_sshd_that_never_answers_is_told(pair: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def arrives() -> None:
        booting = Booting(monkeypatch)
        booting._answers.clear()
        await Arrival(pair).awaited(booting.machine, Deadline(0.2))

    with pytest.raises(DeadlinePassed, match="the guest's sshd"):
        asyncio.run(arrives())
