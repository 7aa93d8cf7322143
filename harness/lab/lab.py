"""The lab: a VM of ours that is a KVM host with vhost_vsock, reached by SSH on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec

from harness.host.admission import free_mib
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image.qemu import of_image
from harness.image.store import Image
from harness.lab import background, keys
from harness.lab.address import Address
from harness.lab.ssh import Ssh, answers
from harness.lab.state import State
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError, SystemFailure
from harness.model.spec import Accel, Drive, MachineSpec
from harness.vm import commandline, network, template
from harness.vm.commandline import RamFile, Wiring
from harness.vm.machine import Machine

MEMORY_MIB = 4096
"""What a lab gets unless told otherwise: four pods and their QEMUs need a third of it."""

LEAST_MIB = 1536
_BOOT_SECONDS = 120.0
"""For a boot that takes 8 s on a desktop core under emulation; multiplied by the host's slowness."""

_SAVE_SECONDS = 60.0

_LISTENS = "Server listening on 0.0.0.0 port 22"
"""What the lab's sshd says on the console."""

GUESTS = ("pod", "proxy", "programs")
"""The images that pods are made of, beside QEMU, which a lab has in its root."""


class LabImages(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab is made of, and the images it shall have inside.

    `kernel` is one of another Debian release than the lab's (`harness.lab.state.kernels`).
    """

    qemu: Image
    lab: Image
    guests: tuple[Image, ...]
    kernel: Image | None = None

    @property
    def all(self) -> tuple[Image, ...]:
        """Each of them."""
        return (self.qemu, self.lab, *self.guests, *((self.kernel,) if self.kernel else ()))


class Lab(msgspec.Struct, frozen=True):
    """A lab that answers by SSH. `boot_seconds` is from QEMU's start to the first answer."""

    address: Address
    pid: int
    boot_seconds: float
    accel: Accel


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab shall be: made of `images`, opened by `pair`, with so much memory, itself under `accel`.

    `state` is what `doctor` shall find there. `guest` is the image of which a saved one holds a template.
    """

    images: LabImages
    pair: keys.Keys
    memory_mib: int = MEMORY_MIB
    accel: Accel = Accel.TCG
    state: State = State.LOADED
    guest: str = GUESTS[0]


@contextlib.contextmanager
def up(
    wish: Wish,
    folder: RunFolder,
    *,
    name: str = "lab",
    log_folder: Path,
    saved: Path | None = None,
    halt: background.Halt | None = None,
) -> Iterator[Lab]:
    """A lab that answers; it ends with the `with`, and with this process however that ends.

    :param saved: a folder that `save` filled for the same wish: go on from there instead of booting. The
        clock is then that of the saving (see `set_clock`).
    :param halt: ends it from another thread, also before it answers.
    :raise HostUnfit: when there is not enough free memory.
    :raise InfrastructureError: when it does not come up; the console's end is in the detail.
    """
    check_memory(wish.memory_mib)
    spec = _spec(wish, folder if saved is None else None, name)
    ram = None if saved is None else template.memory(saved)
    incoming = None if saved is None else saved / "state"

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[Lab]:
        async with _running(spec, wish, folder, log_folder, ram, incoming) as (lab, _):
            yield lab

    with background.entered(entered, halt) as lab:
        yield lab


def save(
    wish: Wish, folder: RunFolder, *, log_folder: Path, target: Path, prepare: Callable[[Lab], None]
) -> None:
    """Boot a lab, have `prepare` make it ready over SSH, and save it in the folder `target` (``ram``,
    ``state``).

    :param prepare: runs on a thread of its own; leaves no connection open.
    :raise HostUnfit, InfrastructureError: as `up`, and what `prepare` raises.
    """
    check_memory(wish.memory_mib)
    spec = _spec(wish, folder, "lab")
    ram = RamFile(path=target / "ram", share=True)

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[None]:
        async with _running(spec, wish, folder, log_folder, ram, None) as (lab, machine):
            await asyncio.to_thread(prepare, lab)
            await template.save(machine.monitor, target / "state", Deadline(_SAVE_SECONDS * slowness()))
            yield

    with background.entered(entered):
        pass
    for path in (target / "ram", target / "state"):
        with path.open("rb+") as file:  # after a power cut, half of it must not be taken for a lab
            os.fsync(file.fileno())


def set_clock(ssh: Ssh) -> None:
    """Set a restored lab's clock to this machine's."""
    ssh.run(["date", "-u", "-s", f"@{time.time():.3f}"])


def command_line(wish: Wish) -> list[str]:
    """What a saved lab depends on, as words: QEMU's command line, without what differs from run to run."""
    spec = msgspec.structs.replace(_spec(wish, None, "lab"), initrd=Path("initrd"))
    return commandline.build(spec, of_image(wish.images.qemu), Wiring(qmp_fd=3, console=Path("console")))


def _spec(wish: Wish, folder: RunFolder | None, name: str) -> MachineSpec:
    """The lab's VM; with `folder`, its initramfs is written there."""
    image, kernel = wish.images.lab, wish.images.kernel
    initrd = Path("initrd")
    if folder is not None:
        initrd = folder.path / f"{name}.initrd"
        keys.write_initrd((kernel or image).file("initrd"), wish.pair, initrd)
    return MachineSpec(
        name=name,
        kernel=kernel.file("vmlinuz") if kernel else image.file("vmlinux"),
        initrd=initrd,
        # it guards nothing: what runs in it belongs to the user that boots it
        append=f"mitigations=off{wish.state.append}",
        memory_mib=wish.memory_mib,
        vcpus=1,  # with two, multi-threaded TCG kills the lab's kernel within minutes (docs/decisions.md)
        accel=wish.accel,
        drives=(
            Drive(path=image.file("root.erofs")),
            *(Drive(path=guest.file("image.erofs")) for guest in wish.images.guests),
        ),
        ssh_forward=0,
    )


@contextlib.asynccontextmanager
async def _running(
    spec: MachineSpec,
    wish: Wish,
    folder: RunFolder,
    log_folder: Path,
    ram: RamFile | None,
    incoming: Path | None,
) -> AsyncIterator[tuple[Lab, Machine]]:
    deadline = Deadline(_BOOT_SECONDS * slowness())
    begun = time.monotonic()
    start = Machine.start(
        spec,
        of_image(wish.images.qemu),
        folder,
        log_folder=log_folder,
        deadline=deadline,
        ram=ram,
        incoming=incoming,
    )
    try:
        async with start as machine:
            port = await network.ssh_port(machine.monitor)
            if incoming is None:
                await machine.console.wait_for(_LISTENS, deadline, machine.check)
            address = Address(
                host="127.0.0.1", port=port, user="root", key=wish.pair.user, host_key=wish.pair.host_public
            )
            if not await asyncio.to_thread(answers, address, deadline):
                raise InfrastructureError(
                    f"{spec.name}: no SSH server answers on port {port}", detail=machine.console.tail()
                )
            yield Lab(address, machine.pid, round(time.monotonic() - begun, 1), spec.accel), machine
    except SystemFailure as error:
        # a lab is no system under test: what its kernel or emulator does wrong is our infrastructure's fault
        raise InfrastructureError(
            f"{spec.name}: {error.summary}", detail=error.detail, hint=error.hint
        ) from error


def needed_mib(memory_mib: int) -> int:
    """What must be free for a lab of so many MiB: it never touches all of them, and shares what it was
    restored from."""
    return max(LEAST_MIB, memory_mib * 6 // 10)


def check_memory(memory_mib: int) -> None:
    """:raise HostUnfit: not enough of it is free for a lab of so many MiB."""
    free = free_mib()
    if free < needed_mib(memory_mib):
        raise HostUnfit(
            f"a lab of {memory_mib} MiB needs {needed_mib(memory_mib)} MiB free; {free} MiB are available",
            ability="memory",
            hint=f"end something, or use --lab-memory with at least {LEAST_MIB}",
        )
