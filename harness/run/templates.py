"""The saved pod that clones go on from: made once for all that it depends on, kept between runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from harness.host import cid, depot
from harness.host.kernel import cpu
from harness.host.paths import cache_root
from harness.host.speed import slowness
from harness.image.store import Image
from harness.model.deadline import Deadline, until_async
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.link import Link
from harness.model.spec import Accel, MachineSpec, Qemu, Vsock
from harness.run import hybrid
from harness.run.greeting import greet
from harness.run.place import Place, distributed, pod_spec
from harness.run.proxy import ping
from harness.vm import commandline, template
from harness.vm.commandline import RamFile, Wiring
from harness.vm.idle import idle
from harness.vm.machine import Machine
from harness.vm.template import NotRestored

T = TypeVar("T")

SERIAL = tuple(link for link in Link if link.is_serial_port)
"""The links that every template has."""

_REST_SECONDS = 10.0
"""For the guest to have nothing more to do, multiplied by the host's slowness: what it still does, each clone
does."""

_WITH_VSOCK = "vsock"
"""Folder of what was saved with a vsock device. Restored, it has the CID of its QEMU's command line: QEMU has
the guest read it anew (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, hw/virtio/vhost-vsock-common.c)."""

_PROGRAM = "qemu-system-"

_NOTE = "note"
"""File beside `state`: what those should know who go on from there. Mostly there is none."""

_FORMAT = 3
"""Counts up when what is saved changes without anything else in the key doing so."""


def folder() -> Path:
    """Where this user's templates are kept between runs."""
    return cache_root() / "templates"


def spec(place: Place) -> MachineSpec:
    """The VM that is saved, and that each clone is again, with or without a device in its PCIe port."""
    return place.pod(SERIAL, Vsock.HOTPLUG)


def recipe(guest: Image, agent: str, accel: Accel) -> str:
    """A hash of what the harness itself puts into a template: the guest, the agent, the command line.

    It is the same on every host; `key` adds what differs from host to host.
    """
    wish = pod_spec(Path("kernel"), Path("initrd"), accel, SERIAL, Vsock.HOTPLUG)
    wish = distributed(wish, Path("root")) if guest.is_distribution else wish
    wiring = Wiring(qmp_fd=3, console=Path("console"), link_fds=dict.fromkeys(SERIAL, 3))
    return _hash(
        [str(_FORMAT), guest.contents, agent, *commandline.build(wish, Qemu(argv=("qemu",)), wiring)]
    )


def key(place: Place) -> str:
    """What a template of this place is kept under: its recipe, the QEMU build, under KVM the CPU, whether
    this host has vsock, and the keys of the guest's sshd."""
    found = _program(place.qemu).stat()
    words = [recipe(place.guest, place.agent, place.accel), *place.qemu.argv]
    if pair := place.arrival.pair:
        words += [pair.user_public, pair.host_public]
    words += [place.qemu.version, str(found.st_size), str(found.st_mtime_ns), str(cid.usable())]
    return _hash(words + ([cpu()] if place.accel is Accel.KVM else []))


def _program(qemu: Qemu) -> Path:
    """QEMU's own file, not the loader that runs it; that of an image is named after the name it is told.

    :raise HostUnfit: there is none.
    """
    for word in reversed(qemu.argv):
        if Path(word).name.startswith(_PROGRAM) and (path := shutil.which(word)):
            return Path(path)
    raise HostUnfit(f"there is no {_PROGRAM}* in {' '.join(qemu.argv)}", ability="qemu")


def _hash(words: list[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@contextlib.asynccontextmanager
async def held(place: Place, log_folder: Path, *, vsock: bool = False) -> AsyncIterator[Path]:
    """The folder with this place's saved pod (``ram``, ``state``), made first if it isn't there.

    It stays there for the time of the `async with`. One that is being made by another process is waited for.
    One that is left by `NotRestored`, or is not whole, is thrown away.

    :param log_folder: gets the logs of the VM that is saved, if one is.
    :param vsock: the one that was saved with a vhost-vsock-pci in its port, which is restored with any CID:
        there is one where this host can lease CIDs.
    :raise HostUnfit, InfrastructureError, GuestCrashed: it can't be made, see `Machine.start`.
    """
    identity, part = key(place), _WITH_VSOCK if vsock else ""
    made = False
    while True:
        damaged: NotRestored | None = None
        async with _unblocked(lambda: place.templates.using(identity, wait=False)) as folder:
            born = _born(folder / part) if folder is not None else None
            if folder is not None and (made or _is_whole(folder / part, spec(place))):
                try:
                    yield folder / part
                    return
                except NotRestored as error:
                    damaged = error
        if folder is not None:
            await _discard(place, identity, part, born)
        if damaged is not None:
            raise damaged
        async with _unblocked(lambda: place.templates.making(identity, wait=False)) as scratch:
            if scratch is not None:
                await _make(place, scratch, log_folder)
                await asyncio.to_thread(depot.sync, scratch)
                made = True


def is_there(place: Place) -> bool:
    """Whether this place has its template, so that `held` will probably make none."""
    with contextlib.suppress(BlockingIOError), place.templates.using(key(place), wait=False) as folder:
        return folder is not None
    return False


def note(saved: Path) -> tuple[str, ...]:
    """What those should know who go on from what `held` gave."""
    path = saved / _NOTE
    return (path.read_text(),) if path.exists() else ()


@contextlib.asynccontextmanager
async def _unblocked(lock: Callable[[], AbstractContextManager[T]]) -> AsyncIterator[T]:
    """The context that `lock` gives, asked for it again while it raises BlockingIOError.

    A flock(2) that waits would stop the event loop, and in it whoever holds the lock.
    """
    with contextlib.ExitStack() as stack:

        def entered() -> tuple[T] | None:
            with contextlib.suppress(BlockingIOError):
                return (stack.enter_context(lock()),)
            return None

        (value,) = await until_async(entered, Deadline(None), "a template's lock")
        yield value


async def _discard(place: Place, identity: str, part: str, born: tuple[int, int] | None) -> None:
    """Throw the template away whose `part` was `born` then, once nobody uses it."""

    def still(folder: Path) -> bool:
        return _born(folder / part) == born

    def gone() -> bool:
        with contextlib.suppress(BlockingIOError):
            place.templates.discard(identity, wait=False, still=still)
            return True
        return False

    await until_async(gone, Deadline(None), "a template's users")


def _born(saved: Path) -> tuple[int, int] | None:
    """What tells a saved machine from one that was made in its place: its state's inode and time."""
    try:
        found = (saved / "state").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_whole(saved: Path, wish: MachineSpec) -> bool:
    """Whether its files are there: QEMU makes a missing memory anew, all zeros."""
    try:
        return (saved / "ram").stat().st_size == wish.memory_mib << 20 and (
            saved / "state"
        ).stat().st_size > 0
    except OSError:
        return False


async def _make(place: Place, folder: Path, log_folder: Path) -> None:
    """Boot a pod and save it in `folder`, once its agent has answered on each of its links; where there is
    vsock, plug its device in then, and save it a second time."""
    wish = spec(place)
    vsock = cid.usable()
    free = depot.free_bytes(folder) >> 20
    needed = wish.memory_mib * (2 if vsock else 1)  # saved twice, its memory is there twice
    if free < needed:  # QEMU would die of SIGBUS in the middle
        raise InfrastructureError(
            f"no space for a saved pod in {place.templates.root}: {free} MiB of {needed} are free",
            hint="vsock-harness images prune",
        )
    deadline = Deadline(place.arrival.seconds * slowness())
    running = folder / _WITH_VSOCK if vsock else folder
    running.mkdir(exist_ok=True)
    ram = RamFile(path=running / "ram", share=True)
    async with Machine.start(
        wish, place.qemu, place.folder, log_folder=log_folder, deadline=deadline, ram=ram
    ) as machine:
        await place.arrival.awaited(machine, deadline)
        for link in SERIAL:  # each answered: the agent has all its ports open before it is saved
            if link.is_proxied:  # without the proxy: each clone has its own
                await ping(machine, deadline)
            else:
                await greet(machine, link, place.agent)
        await _save(machine, folder / "state", deadline)
        if vsock:
            await asyncio.to_thread(hybrid.copy_sparse, ram.path, folder / "ram")
            await machine.monitor.execute("cont")
            with cid.CidLease.claim() as lease:
                await machine.plug_vsock(lease, deadline)
                await greet(machine, Link.VSOCK, place.agent)
            await _save(machine, running / "state", deadline)


async def _save(machine: Machine, state: Path, deadline: Deadline) -> None:
    """Save a pod that rests: one that answers may still be busy with what came before, as with looking for
    the devices that the kernel announced, and each clone would begin with that."""
    if not await idle(machine.pid, Deadline(_REST_SECONDS * slowness())):
        state.with_name(_NOTE).write_text(
            "the template was still busy when it was saved: its clones take longer to answer; "
            "vsock-harness images prune --all, for another one"
        )
    await template.save(machine.monitor, state, deadline)
