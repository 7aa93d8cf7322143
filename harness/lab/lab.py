"""The lab: a VM of ours that is a KVM host with vhost_vsock, reached by SSH on 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image import cpio
from harness.image.qemu import of_image
from harness.image.store import Image
from harness.lab import background, keys
from harness.lab.address import Address
from harness.lab.ssh import Ssh
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError, SystemFailure
from harness.model.spec import Accel, Drive, MachineSpec
from harness.vm import network
from harness.vm.machine import Machine

MEMORY_MIB = 4096
"""What a lab gets unless told otherwise: four pods and their QEMUs need a third of it."""

LEAST_MIB = 1536
_BOOT_SECONDS = 120.0
"""For a boot that takes 8 s on a desktop core under emulation; multiplied by the host's slowness."""


GUESTS = ("pod", "proxy")
"""The images that pods are made of, beside QEMU, which a lab has in its root."""


class LabImages(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab is made of, and the images it shall have inside."""

    qemu: Image
    lab: Image
    guests: tuple[Image, ...]


class Lab(msgspec.Struct, frozen=True):
    """A lab that answers by SSH. `boot_seconds` is from QEMU's start to the first answer."""

    address: Address
    pid: int
    boot_seconds: float
    accel: Accel


@contextlib.contextmanager
def up(
    images: LabImages,
    key_folder: Path,
    folder: RunFolder,
    *,
    name: str = "lab",
    accel: Accel = Accel.TCG,
    memory_mib: int = MEMORY_MIB,
    log_folder: Path,
) -> Iterator[Lab]:
    """Boot a lab; it ends with the `with`, and with this process however that ends.

    :raise HostUnfit: when there is not enough free memory.
    :raise InfrastructureError: when it does not come up; the console's end is in the detail.
    """
    _check_memory(memory_mib)
    pair = keys.ensure(key_folder)
    initrd = folder.path / f"{name}.initrd"
    _write_initrd(images.lab.file("initrd"), pair, initrd)
    spec = MachineSpec(
        name=name,
        kernel=images.lab.file("vmlinux"),
        initrd=initrd,
        append="mitigations=off",  # it guards nothing: what runs in it belongs to the user that boots it
        memory_mib=memory_mib,
        vcpus=1,  # with two, multi-threaded TCG kills the lab's kernel within minutes (docs/decisions.md)
        accel=accel,
        drives=(
            Drive(path=images.lab.file("root.erofs")),
            *(Drive(path=image.file("image.erofs")) for image in images.guests),
        ),
        ssh_forward=0,
    )
    with background.entered(lambda: _booted(spec, images.qemu, folder, pair, log_folder)) as lab:
        yield lab


@contextlib.asynccontextmanager
async def _booted(
    spec: MachineSpec, qemu: Image, folder: RunFolder, pair: keys.Keys, log_folder: Path
) -> AsyncIterator[Lab]:
    deadline = Deadline(_BOOT_SECONDS * slowness())
    start = Machine.start(spec, of_image(qemu), folder, log_folder=log_folder, deadline=deadline)
    try:
        async with start as machine:
            port = await network.ssh_port(machine.monitor)
            await machine.console.wait_for("Server listening on 0.0.0.0 port 22", deadline)
            address = Address(
                host="127.0.0.1", port=port, user="root", key=pair.user, host_key=pair.host_public
            )
            Ssh.connect(address).close()
            seconds = (deadline.seconds or 0.0) - (deadline.remaining() or 0.0)
            yield Lab(address, machine.pid, round(seconds, 1), spec.accel)
    except SystemFailure as error:
        # a lab is no system under test: what its kernel or emulator does wrong is our infrastructure's fault
        raise InfrastructureError(
            f"{spec.name}: {error.summary}", detail=error.detail, hint=error.hint
        ) from error


def _write_initrd(base: Path, pair: keys.Keys, target: Path) -> None:
    """The image's initramfs with the keys as a second segment: the image itself knows none."""
    shutil.copyfile(base, target)
    with target.open("ab") as file:
        cpio.write(
            file,
            [
                cpio.folder("vsock-harness", 0o700),
                cpio.file("vsock-harness/authorized_keys", pair.user_public.encode(), 0o600),
                cpio.file("vsock-harness/ssh_host_ed25519_key", pair.host, 0o600),
            ],
        )


def free_mib() -> int:
    """Memory that can be had without swapping, in MiB (MemAvailable of proc_meminfo(5))."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) // 1024


def _check_memory(memory_mib: int) -> None:
    free = free_mib()
    if free < LEAST_MIB or free < memory_mib * 0.6:
        raise HostUnfit(
            f"a lab of {memory_mib} MiB needs about 60 % of that free; {free} MiB are available",
            ability="memory",
            hint=f"end something, or use --lab-memory with at least {LEAST_MIB}",
        )
