"""The agent put by SSH into a guest that we did not make: its own sshd, its own systemd."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from harness.guest import inject
from harness.host.speed import slowness
from harness.lab.address import Address
from harness.lab.keys import Keys
from harness.lab.ssh import Ssh, answers
from harness.model.deadline import Deadline, until
from harness.model.errors import InfrastructureError
from harness.vm import network
from harness.vm.machine import Machine

BASE = PurePosixPath("/opt/vsock-harness")
"""Where the agent's folder is, which is named by its hash."""

LOOK_SECONDS = 2.0
"""For sshd's first words, once it listens; multiplied by the host's slowness."""

_SERVICE = (
    "--quiet",
    "--collect",
    "--unit=vsock-harness-agent",
    # its words, and what Python says of its end, are evidence: the console is kept, the journal is not
    "--property=StandardOutput=file:/dev/ttyS0",
    "--property=StandardError=inherit",
)


def address(pair: Keys, host: str, port: int) -> Address:
    """Where the guest's root is reached with these keys."""
    return Address(host=host, port=port, user="root", key=pair.user, host_key=pair.host_public)


async def by_network(machine: Machine, pair: Keys) -> Address:
    """Where that is over the user-mode network of `machine`.

    :raise InfrastructureError: it has none.
    """
    return address(pair, "127.0.0.1", await network.ssh_port(machine.monitor))


async def injected(machine: Machine, pair: Keys, deadline: Deadline) -> None:
    """Put the agent into a guest that boots, over the network, and have its systemd start it.

    :raise HarnessError: the guest ended before; its sshd does not answer in time; SSH did not work.
    """
    where = await by_network(machine, pair)
    await listens(machine, lambda: answers(where, look()), deadline)
    await asyncio.to_thread(_put, where)


def _put(where: Address) -> None:
    with Ssh.connect(where) as ssh:
        folder, _ = send(ssh, BASE)
        start(ssh, folder)


def look() -> Deadline:
    """The time for one look at whether sshd speaks."""
    return Deadline(LOOK_SECONDS * slowness())


async def listens(machine: Machine, speaks: Callable[[], bool], deadline: Deadline) -> None:
    """Wait until the guest's sshd `speaks`: nothing tells when it listens.

    :raise HarnessError: the guest ended before, or `deadline` passed.
    """
    ended = threading.Event()

    def asks() -> bool:
        if ended.is_set():
            raise InfrastructureError("the guest ended before its sshd answered")
        return speaks()

    asked = asyncio.ensure_future(asyncio.to_thread(until, asks, deadline, "the guest's sshd", every=0.5))
    end = machine.died
    try:
        either: list[asyncio.Future[Any]] = [asked, end]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        machine.check()
    finally:
        ended.set()
        asked.add_done_callback(lambda over: over.cancelled() or over.exception())  # what it says is known
        end.cancel()
    await asked


def send(ssh: Ssh, base: PurePosixPath) -> tuple[PurePosixPath, int]:
    """Put this checkout's agent into the guest, in a folder of `base` that is named by its hash; what is
    there already is not sent again.

    :return: the folder, and how many files were sent.
    :raise InfrastructureError: the connection broke, or the guest took no file.
    """
    folder = base / inject.expected_digest()
    files = sorted(Path(path.name) for path in inject.AGENT.glob("*.py"))
    return folder, ssh.push(inject.AGENT, folder / "agent", files)


def start(ssh: Ssh, folder: PurePosixPath) -> None:
    """Start the agent that is in `folder` as a service of the guest's systemd.

    :raise InfrastructureError: it refuses; with its words.
    """
    ssh.run(["systemd-run", *_SERVICE, *inject.command(folder)])
