"""A pod: a VM whose agent has answered and proved to be the one that was injected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import msgspec

from harness.guest.client import Hello
from harness.host.cid import CidLease
from harness.host.speed import slowness
from harness.model.deadline import Deadline
from harness.model.errors import GuestCrashed, HarnessError, UsageError
from harness.model.link import Endpoint, Link
from harness.model.spec import Vsock
from harness.run import hybrid, templates
from harness.run.arrival import Arrival
from harness.run.beside import Beside
from harness.run.greeting import first, greet
from harness.run.hybrid import Device
from harness.run.place import Place
from harness.run.proxy import Proxy, beside
from harness.vm.commandline import RamFile, VhostUser
from harness.vm.machine import Machine
from harness.vm.template import NotRestored, memory


class Pod(msgspec.Struct, frozen=True):
    """A running pod, with its proxy and its vsock device's process if it has one.

    `seconds` tells how long its phases took. `memory` is the file of its VM's memory, if that is its alone.
    `arrival` is how the agent got there, and gets there again once the guest was reset.
    `notes` are what a reader of the results should know of how it came to be.
    """

    machine: Machine
    hello: Hello
    seconds: dict[str, float]
    proxy: Proxy | None = None
    device: Device | None = None
    memory: RamFile | None = None
    arrival: Arrival = Arrival()
    notes: tuple[str, ...] = ()

    @property
    def qemu(self) -> str:
        """QEMU's version, as it says itself."""
        return self.machine.monitor.version

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
        """Raise if something went wrong with its VM, its proxy or its vsock device's process so far."""
        self.machine.check()
        if self.device:
            await self.device.check()
        if self.proxy:
            await self.proxy.check()


class _Phases:
    """A stopwatch: `lap` names what took since the last lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._at, 3)
        self._at = now


@contextlib.asynccontextmanager
async def booted(
    place: Place,
    links: Iterable[Link],
    log_folder: Path,
    *,
    seqpacket: bool = True,
) -> AsyncIterator[Pod]:
    """A pod booted from nothing, its vsock device on the command line.

    :param seqpacket: False makes that device without SOCK_SEQPACKET.
    :raise HostUnfit: vsock is wanted and this host has no usable /dev/vhost-vsock.
    :raise InfrastructureError: QEMU or the guest did not come up in time.
    :raise GuestCrashed: its kernel crashed, now or later.
    """
    links = frozenset(links)
    deadline = Deadline(place.arrival.seconds * slowness())
    phases = _Phases()
    async with contextlib.AsyncExitStack() as stack:
        lease, device = await _vsock(stack, place, links, log_folder)
        wish = place.pod(links, Vsock.COLD if lease else Vsock.NONE)
        wish = msgspec.structs.replace(wish, seqpacket=seqpacket)
        machine = await stack.enter_async_context(
            Machine.start(
                wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, lease=lease
            )
        )
        if device:
            device.serves(machine)
        phases.lap("qemu")
        await place.arrival.awaited(machine, deadline)
        phases.lap("boot")
        proxy = await _proxy(stack, place, machine, links, log_folder)
        hello = await greet(machine, first(links), place.agent, device or proxy)
        phases.lap("hello")
        yield Pod(machine, hello, phases.seconds, proxy, device, arrival=place.arrival)


class CloneWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a clone shall be besides having its links.

    `seqpacket`: as of `booted`. `own_memory`: its memory is a copy of the template's, instead of a view of
    it: another VM may go on with it. `boots_again`: a reset boots its guest anew (`MachineSpec`).
    """

    seqpacket: bool = True
    own_memory: bool = False
    boots_again: bool = False


_PLAIN = CloneWish()


@contextlib.asynccontextmanager
async def cloned(
    place: Place, links: Iterable[Link], log_folder: Path, wish: CloneWish = _PLAIN
) -> AsyncIterator[Pod]:
    """A pod that goes on from this place's template, its vsock device's CID and its identity its own.

    The template, made on first use, has every serial link; the clone has them too, whatever `links` says.
    A vsock device only if they do.
    One that does not restore, or then gives no first answer, is thrown away and made again, once; the logs
    of what it did are in the folder `not-restored` of `log_folder`.

    :raise: as `booted`.
    """
    links = frozenset(links)
    async with contextlib.AsyncExitStack() as stack:
        try:
            pod = await _restored(stack, place, links, log_folder, wish)
        except NotRestored as error:
            _set_aside(log_folder)
            try:
                pod = await _restored(stack, place, links, log_folder, wish, again=True)
            except HarnessError as trouble:
                trouble.add_note(f"a template was thrown away before: {error}")
                raise
        yield pod


def _set_aside(log_folder: Path) -> None:
    """Move the logs of a pod that is to be made again out of the next one's way."""
    logs = list(log_folder.iterdir()) if log_folder.is_dir() else []
    for log in logs:
        log.rename(_made(log_folder / "not-restored") / log.name)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


async def _vsock(
    stack: contextlib.AsyncExitStack, place: Place, links: frozenset[Link], log_folder: Path
) -> tuple[CidLease | VhostUser | None, Device | None]:
    """What the pod's vsock device is plugged in with, and its process if it is one; `stack` ends them.

    :raise HostUnfit: this host can't give it.
    :raise UsageError: two vsock devices are wanted; the guest's driver takes the first alone.
    """
    wanted = sorted(link for link in links if link.is_vsock)
    if len(wanted) > 1:
        raise UsageError(f"a pod has one vsock device, not {' and '.join(wanted)}")
    place.check(links)
    if wanted == [Link.VSOCK]:
        return stack.enter_context(CidLease.claim()), None
    if not wanted:
        return None, None
    device = await stack.enter_async_context(hybrid.running(place.hybrid, place.folder, log_folder))
    return device.sockets, device


async def _restored(
    outer: contextlib.AsyncExitStack,
    place: Place,
    links: frozenset[Link],
    log_folder: Path,
    wish: CloneWish,
    *,
    again: bool = False,
) -> Pod:
    """A pod that goes on from the template; `outer` ends it.

    :param again: the template is new: what its first answer lacks is no fault of it.
    :raise NotRestored: the template was damaged; nothing is left for `outer` to end.
    """
    phases = _Phases()
    async with contextlib.AsyncExitStack() as stack:
        lease, device = await _vsock(stack, place, links, log_folder)
        # a device that differs from the saved one, or is of another kind, is plugged in later
        saved_with = lease if isinstance(lease, CidLease) and wish.seqpacket else None
        own_memory = wish.own_memory or device is not None  # the device's process works in it
        template = templates.held(place, log_folder.parent / "template", vsock=saved_with is not None)
        async with template as saved:
            phases.lap("template")
            deadline = Deadline(place.arrival.seconds * slowness())
            ram = await _copied(stack, saved, place, phases) if own_memory else memory(saved)
            start = Machine.start(
                msgspec.structs.replace(templates.spec(place), boots_again=wish.boots_again),
                place.qemu,
                place.folder,
                log_folder=log_folder,
                deadline=deadline,
                lease=saved_with,
                ram=ram,
                incoming=saved / "state",
            )
            machine = await stack.enter_async_context(start)
            phases.lap("clone")
            if device:
                device.serves(machine)
            proxy = await _proxy(stack, place, machine, links, log_folder)
            if lease and not saved_with:
                await machine.plug_vsock(lease, deadline, seqpacket=wish.seqpacket)
                phases.lap("plug")
            through = device or proxy
            with contextlib.nullcontext() if again else _blaming(saved, None if saved_with else through):
                hello = await _first_answer(machine, place, links, saved_with, through)
            notes = templates.note(saved)
        if saved_with:
            phases.lap("identity")
            hello = await greet(machine, first(links), place.agent, through)
        phases.lap("hello")
        await outer.enter_async_context(stack.pop_all())
        own = ram if own_memory else None
        return Pod(machine, hello, phases.seconds, proxy, device, own, place.arrival, notes)


async def _copied(stack: contextlib.AsyncExitStack, saved: Path, place: Place, phases: _Phases) -> RamFile:
    """A copy of the template's memory, for one clone alone; `stack` removes it."""
    copy = await stack.enter_async_context(hybrid.copied(memory(saved).path, place.folder))
    phases.lap("copy")
    return RamFile(path=copy, share=True)


async def _first_answer(
    machine: Machine,
    place: Place,
    links: frozenset[Link],
    saved_with: CidLease | None,
    through: Beside | None,
) -> Hello:
    """A clone's, over virtio-serial if its vsock device is a saved one.

    Until it has read its new CID the guest answers with the old one, which the host's kernel drops, and then
    it resets what is connected: a client of its vsock may come afterwards.
    """
    if saved_with:
        return await greet(machine, Link.VIRTIO_SERIAL, place.agent, clone=True, cid=saved_with.cid)
    return await greet(machine, first(links), place.agent, through, clone=True)


@contextlib.contextmanager
def _blaming(saved: Path, through: Beside | None) -> Iterator[None]:
    """What keeps a clone from its first answer is `NotRestored`: of damaged memory nothing else tells.

    Where it is asked `through` a process beside it, that may be to blame as well, but for a kernel's crash.
    """
    try:
        yield
    except HarnessError as error:
        if through and not isinstance(error, GuestCrashed):
            raise
        what = f"a machine restored from {saved} gives no first answer: {error.summary}"
        raise NotRestored(what, detail=error.detail) from error


async def _proxy(
    stack: contextlib.AsyncExitStack, place: Place, machine: Machine, links: frozenset[Link], log_folder: Path
) -> Proxy | None:
    """The proxy of a pod that is to have one; `stack` ends it, before the VM."""
    if not any(link.is_proxied for link in links):
        return None
    return await stack.enter_async_context(beside(machine, place.proxy, place.folder, log_folder))
