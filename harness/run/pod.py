"""A pod: a VM whose agent has answered and proved to be the one that was injected."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.guest import inject
from harness.guest.client import AgentClient, Hello
from harness.host.cid import CidLease
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import InfrastructureError, SystemFailure, UsageError
from harness.model.link import Endpoint, Link
from harness.model.spec import MachineSpec, Vsock
from harness.run.place import Place
from harness.run.proxy import Proxy, beside, ping
from harness.vm import template
from harness.vm.commandline import RamFile
from harness.vm.machine import Machine

_BOOT_SECONDS = 60.0
"""For a boot that takes 2 s on a desktop core; multiplied by the host's slowness."""

_HELLO_SECONDS = 20.0

SERIAL = tuple(link for link in Link if link.is_serial_port)
"""What every template has."""


class Pod(msgspec.Struct, frozen=True):
    """A running pod, with its proxy if it has one. `seconds` tells how long its phases took."""

    machine: Machine
    hello: Hello
    seconds: dict[str, float]
    proxy: Proxy | None = None

    def endpoint(self, link: Link) -> Endpoint:
        """Where clients reach the agent over `link`; see `Machine.endpoint`.

        :raise UsageError: it has no such link.
        """
        if not link.is_proxied:
            return self.machine.endpoint(link)
        if self.proxy is None:
            raise UsageError(f"this pod was made without {link}")
        return self.proxy.endpoint

    async def check(self) -> None:
        """Raise if something went wrong with its VM or its proxy so far: `Machine.check`, `Proxy.check`."""
        self.machine.check()
        if self.proxy:
            await self.proxy.check()


def spec(place: Place, links: Iterable[Link], vsock: Vsock) -> MachineSpec:
    """The pod's VM on this host: the guest image with the agent, the devices of `links`."""
    return MachineSpec(
        name="pod",
        kernel=place.guest.file("vmlinux"),
        initrd=place.initrd,
        links=frozenset(links),
        vsock=vsock,
        accel=place.accel,
    )


@contextlib.asynccontextmanager
async def booted(place: Place, links: Iterable[Link], log_folder: Path) -> AsyncIterator[Pod]:
    """A pod booted from nothing, its vsock device on the command line.

    :raise HostUnfit: vsock is wanted and this host has no usable /dev/vhost-vsock.
    :raise InfrastructureError: QEMU or the guest did not come up in time.
    :raise GuestCrashed: its kernel crashed, now or later.
    """
    links = frozenset(links)
    deadline = Deadline(_BOOT_SECONDS * slowness())
    begun = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        lease = stack.enter_context(CidLease.claim()) if Link.VSOCK in links else None
        wish = spec(place, links, Vsock.COLD if lease else Vsock.NONE)
        machine = await stack.enter_async_context(
            Machine.start(
                wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, lease=lease
            )
        )
        started = time.monotonic()
        await machine.console.wait_for(inject.READY, deadline)
        ready = time.monotonic()
        proxy = await _proxy(stack, place, machine, links, log_folder)
        hello = await greet(machine, first(links), place.agent, proxy)
        phases = {"qemu": started - begun, "boot": ready - started, "hello": time.monotonic() - ready}
        yield Pod(machine, hello, {name: round(value, 3) for name, value in phases.items()}, proxy)


@contextlib.asynccontextmanager
async def cloned(place: Place, links: Iterable[Link], log_folder: Path) -> AsyncIterator[Pod]:
    """A pod that goes on from this place's template, its vsock device plugged in.

    The template, made on first use, has every serial link; the clone has them too, whatever `links` says.

    :raise: as `booted`.
    """
    links = frozenset(links)
    deadline = Deadline(_BOOT_SECONDS * slowness())
    begun = time.monotonic()
    saved = await _template(place, log_folder.parent / "template")
    made = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        lease = stack.enter_context(CidLease.claim()) if Link.VSOCK in links else None
        machine = await stack.enter_async_context(
            Machine.start(
                spec(place, SERIAL, Vsock.HOTPLUG),
                place.qemu,
                place.folder,
                log_folder=log_folder,
                deadline=deadline,
                ram=RamFile(path=saved / "ram", share=False),
                incoming=saved / "state",
            )
        )
        started = time.monotonic()
        if lease:
            await machine.plug_vsock(lease, deadline)
        plugged = time.monotonic()
        proxy = await _proxy(stack, place, machine, links, log_folder)
        hello = await greet(machine, first(links), place.agent, proxy)
        phases = {"template": made - begun, "clone": started - made, "plug": plugged - started}
        phases["hello"] = time.monotonic() - plugged
        yield Pod(machine, hello, {name: round(value, 3) for name, value in phases.items()}, proxy)


async def _proxy(
    stack: contextlib.AsyncExitStack, place: Place, machine: Machine, links: frozenset[Link], log_folder: Path
) -> Proxy | None:
    """The proxy of a pod that is to have one; `stack` ends it, before the VM."""
    if not any(link.is_proxied for link in links):
        return None
    return await stack.enter_async_context(beside(machine, place.proxy, place.folder, log_folder))


@contextlib.asynccontextmanager
async def _removed_on_failure(folder: Path) -> AsyncIterator[None]:
    """Nothing of a template that could not be saved is left for the next one to fall over."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


async def _template(place: Place, log_folder: Path) -> Path:
    """The folder with this place's saved pod (`ram`, `state`), made if it isn't there yet."""
    folder = place.folder.path / "template"
    if (folder / "state").exists():
        return folder
    folder.mkdir(exist_ok=True)
    deadline = Deadline(_BOOT_SECONDS * slowness())
    wish = spec(place, SERIAL, Vsock.HOTPLUG)
    ram = RamFile(path=folder / "ram", share=True)
    start = Machine.start(wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, ram=ram)
    async with _removed_on_failure(folder), start as machine:
        await machine.console.wait_for(inject.READY, deadline)
        for link in SERIAL:  # each answered: the agent has all its ports open before it is saved
            if link.is_proxied:  # without the proxy: each clone has its own
                await ping(machine, deadline)
            else:
                await greet(machine, link, place.agent)
        await template.save(machine.monitor, folder / "saving", deadline)
        (folder / "saving").rename(folder / "state")
    return folder


def first(links: frozenset[Link]) -> Link:
    """The link by which a pod is greeted: vsock if it has it, else any."""
    return Link.VSOCK if Link.VSOCK in links else min(links)


async def greet(machine: Machine, link: Link, agent: str, proxy: Proxy | None = None) -> Hello:
    """The agent's hello over `link`; `proxy` is the one to ask if the link is proxied.

    A refused connection is tried again until the deadline: right after a vsock device appeared in the
    guest, nothing tells the host when it is ready, nor does anything when a proxy listens.

    :raise SystemFailure: another agent answers than `agent`, the hash of the injected one; the proxy ended.
    """
    deadline = Deadline(_HELLO_SECONDS * slowness())
    endpoint = proxy.endpoint if proxy and link.is_proxied else machine.endpoint(link)
    ended = threading.Event()

    def ask() -> Hello | None:
        if ended.is_set():
            raise InfrastructureError("the pod ended before its agent answered")
        with contextlib.suppress(OSError):
            with connect(endpoint) as sock:
                return AgentClient(sock).hello(deadline=deadline)
        return None

    asked = asyncio.ensure_future(asyncio.to_thread(until, ask, deadline, f"the agent's hello over {link}"))
    ends: list[asyncio.Future[Any]] = [machine.died]
    if proxy and link.is_proxied:
        ends.append(asyncio.ensure_future(proxy.ended()))
    try:
        await asyncio.wait([asked, *ends], return_when=asyncio.FIRST_COMPLETED)
        if not asked.done() or asked.exception():
            machine.check()
            if proxy:
                await proxy.check()
    finally:
        ended.set()
        asked.add_done_callback(lambda over: over.cancelled() or over.exception())  # what it says is known
        for end in ends:
            end.cancel()
    hello = await asked
    if hello.agent != agent:
        raise SystemFailure(
            f"the guest runs another agent than the injected one: {hello.agent[:12]}, not {agent[:12]}",
            hint="is the initramfs segment complete? see console.log",
        )
    return hello
