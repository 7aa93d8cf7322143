"""A distribution's own guest as a pod: booted by its own init, the agent put into it by SSH."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from harness.guest import inject
from harness.host.cid import CidLease
from harness.host.speed import slowness
from harness.image.store import Image
from harness.lab.address import Address
from harness.lab.keys import Keys, write_initrd
from harness.lab.ssh import Ssh, answers
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import InfrastructureError
from harness.model.link import Endpoint, Link
from harness.model.spec import Drive, MachineSpec, Vsock
from harness.run.greeting import greet
from harness.run.place import Place
from harness.run.pod import Pod
from harness.vm import network
from harness.vm.machine import Machine

SSH_PORT = 22
"""Of sshd on vsock, which systemd sets up by itself since 256 (systemd-ssh-generator(8))."""

_BOOT_SECONDS = 120.0
"""For a boot that takes 5 s on a desktop core; multiplied by the host's slowness."""

_LOOK_SECONDS = 2.0
"""For sshd's first words, once it listens; multiplied by the host's slowness."""

_MEMORY_MIB = 512
_APPEND = "systemd.getty_auto=no mitigations=off"
"""Without gettys: one would take the link virtconsole for a terminal to log in at."""


class Distribution(msgspec.Struct, frozen=True):
    """A running guest whose sshd answers; it has no agent yet. `seconds` is from QEMU's start to that."""

    machine: Machine
    network: Address
    vsock: Address
    seconds: float

    @property
    def vsock_endpoint(self) -> Endpoint:
        """Where its sshd listens on vsock."""
        return Endpoint(link=Link.VSOCK, cid=self.machine.endpoint(Link.VSOCK).cid, port=SSH_PORT)

    def by_network(self) -> Ssh:
        """An SSH connection over the user-mode network.

        :raise HostUnfit, InfrastructureError: see `Ssh.connect`.
        """
        return Ssh.connect(self.network)

    def by_vsock(self) -> Ssh:
        """An SSH connection over vsock, to the leased CID.

        :raise OSError: nothing listens there, with connect()'s errno.
        :raise HostUnfit, InfrastructureError: see `Ssh.connect`.
        """
        return Ssh.connect(self.vsock, connect(self.vsock_endpoint))


@contextlib.asynccontextmanager
async def booted(
    place: Place, image: Image, pair: Keys, links: Iterable[Link], log_folder: Path
) -> AsyncIterator[Distribution]:
    """A guest of `image` with these links, vsock and a user-mode network; `pair` opens its sshd.

    :raise HostUnfit: this host has no usable /dev/vhost-vsock.
    :raise InfrastructureError: QEMU, the guest or its sshd did not come up in time.
    :raise GuestCrashed: its kernel crashed, now or later.
    """
    deadline = Deadline(_BOOT_SECONDS * slowness())
    begun = time.monotonic()
    initrd = place.folder.path / f"{image.name}.initrd"
    write_initrd(image.file("initrd"), pair, initrd)
    wish = MachineSpec(
        name=image.name,
        kernel=image.file("vmlinux"),
        initrd=initrd,
        append=_APPEND,
        memory_mib=_MEMORY_MIB,
        accel=place.accel,
        links=frozenset({*links, Link.VSOCK}),
        vsock=Vsock.COLD,
        drives=(Drive(path=image.file("root.erofs")),),
        ssh_forward=0,
    )
    with CidLease.claim() as lease:
        start = Machine.start(
            wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, lease=lease
        )
        async with start as machine:
            made = Distribution(
                machine=machine,
                network=_address(pair, "127.0.0.1", await network.ssh_port(machine.monitor)),
                vsock=_address(pair, f"vsock-{lease.cid}", SSH_PORT),
                seconds=0.0,
            )
            await _listens(made, deadline)
            yield msgspec.structs.replace(made, seconds=round(time.monotonic() - begun, 1))


async def _listens(guest: Distribution, deadline: Deadline) -> None:
    """Wait for the guest's sshd on both ways: nothing tells when it listens.

    :raise HarnessError: the guest ended before.
    """
    ended = threading.Event()

    def speaks() -> bool:
        if ended.is_set():
            raise InfrastructureError("the guest ended before its sshd answered")
        return answers(guest.network, Deadline(_LOOK_SECONDS * slowness())) and _speaks(guest)

    asked = asyncio.ensure_future(asyncio.to_thread(until, speaks, deadline, "the guest's sshd", every=0.5))
    end = guest.machine.died
    try:
        either: list[asyncio.Future[Any]] = [asked, end]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        guest.machine.check()
    finally:
        ended.set()
        asked.add_done_callback(lambda over: over.cancelled() or over.exception())  # what it says is known
        end.cancel()
    await asked


def _speaks(guest: Distribution) -> bool:
    """Whether sshd answers over vsock."""
    try:
        with connect(guest.vsock_endpoint) as sock:
            sock.settimeout(_LOOK_SECONDS * slowness())
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


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
    service = ["--quiet", "--collect", "--unit=vsock-harness-agent"]
    ssh.run(["systemd-run", *service, *inject.command(folder)])


async def greeted(guest: Distribution) -> Pod:
    """The guest as a pod, once the agent that was started has answered over vsock.

    :raise SystemFailure: it is another one.
    """
    hello = await greet(guest.machine, Link.VSOCK, inject.expected_digest())
    return Pod(guest.machine, hello, {"boot": guest.seconds})


def _address(pair: Keys, host: str, port: int) -> Address:
    return Address(host=host, port=port, user="root", key=pair.user, host_key=pair.host_public)
