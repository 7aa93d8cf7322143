"""A distribution's own guest whose sshd is reached both ways, and that has no agent yet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec

from harness.guest import inject
from harness.host.cid import CidLease
from harness.host.speed import slowness
from harness.lab.address import Address
from harness.lab.ssh import Ssh, answers
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.link import Endpoint, Link
from harness.model.spec import Vsock
from harness.run import sshd
from harness.run.greeting import greet
from harness.run.place import Place
from harness.run.pod import Pod
from harness.vm.machine import Machine

SSH_PORT = 22
"""Of sshd on vsock, which systemd sets up by itself since 256 (systemd-ssh-generator(8))."""


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
async def booted(place: Place, links: Iterable[Link], log_folder: Path) -> AsyncIterator[Distribution]:
    """A guest of `place`, which is a distribution's, with these links and vsock.

    :raise HostUnfit: this host has no usable /dev/vhost-vsock.
    :raise InfrastructureError: QEMU, the guest or its sshd did not come up in time.
    :raise GuestCrashed: its kernel crashed, now or later.
    """
    pair = place.arrival.pair
    assert pair is not None
    deadline = Deadline(place.arrival.seconds * slowness())
    begun = time.monotonic()
    wish = place.pod({*links, Link.VSOCK}, Vsock.COLD)
    with CidLease.claim() as lease:
        start = Machine.start(
            wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, lease=lease
        )
        async with start as machine:
            made = Distribution(
                machine=machine,
                network=await sshd.by_network(machine, pair),
                vsock=sshd.address(pair, f"vsock-{lease.cid}", SSH_PORT),
                seconds=0.0,
            )
            await sshd.listens(
                machine, lambda: answers(made.network, sshd.look()) and _speaks(made), deadline
            )
            yield msgspec.structs.replace(made, seconds=round(time.monotonic() - begun, 1))


def _speaks(guest: Distribution) -> bool:
    """Whether sshd answers over vsock."""
    try:
        with connect(guest.vsock_endpoint) as sock:
            sock.settimeout(sshd.look().remaining())
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


async def greeted(guest: Distribution) -> Pod:
    """The guest as a pod, once the agent that was started has answered over vsock.

    :raise SystemFailure: it is another one.
    """
    hello = await greet(guest.machine, Link.VSOCK, inject.expected_digest())
    return Pod(guest.machine, hello, {"boot": guest.seconds})
