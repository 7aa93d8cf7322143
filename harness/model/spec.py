"""What a VM should be. Frozen wishes: no file descriptor, pid or path of a run is in here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.model.link import Link


class Accel(StrEnum):
    """How QEMU runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class Vsock(StrEnum):
    """How the VM gets its ``vhost-vsock-pci``."""

    COLD = "cold"  # on the command line, there before the guest boots
    HOTPLUG = "hotplug"  # an empty PCIe port at first; plugged in over QMP
    NONE = "none"


class Qemu(msgspec.Struct, frozen=True, kw_only=True):
    """A QEMU to run: an installed one, or a tree started through its own dynamic linker.

    `argv` is what comes before the machine's options (a program, or the linker, its options and the
    program). `env` is set on top of the environment. `version` is for people.
    """

    argv: tuple[str, ...] = ("qemu-system-x86_64",)
    env: Mapping[str, str] = {}
    version: str = ""


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """A raw disk image as a virtio-blk disk; drives appear in the guest in their order (vda, vdb, …)."""

    path: Path
    read_only: bool = True


class MachineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A VM: kernel, memory, devices, links.

    `kernel` is an ELF `vmlinux` with a PVH entry (an unpacked kernel boots faster than a bzImage) or a
    bzImage. `append` follows the harness's own kernel parameters, so it can override them. `cpu` empty
    means the best of the accelerator: ``host`` under KVM, ``max`` under TCG. Every link in `links` but
    vsock becomes a serial device; vsock follows from `vsock` alone. Beside the link isa-serial there is a
    spare port of its kind for another agent than ours, ``/dev/ttyS2``, wired to nothing until
    `harness.vm.ports.wire_spare_port`.

    `firmware` is a file in QEMU's data folder; empty means QEMU's own choice, SeaBIOS. ``qboot.rom`` starts a
    `vmlinux` 0.4 s sooner (under emulation) and knows the hot-plug port as well.

    `seqpacket`: whether the vsock device offers SOCK_SEQPACKET, as far as host and guest have it.

    `boots_again`: a reset boots the guest, of one that goes on from a saved machine, too: QEMU then reads
    kernel and initramfs, which else are only in the saved memory.

    `ssh_forward` is the port on 127.0.0.1 that leads to the guest's port 22 over a user-mode network with
    no other way out; 0 lets the kernel choose a free one (`harness.vm.network.ssh_port` tells it); None
    means the VM has no network.
    """

    name: str = "pod"
    kernel: Path
    initrd: Path
    append: str = ""
    memory_mib: int = 256
    vcpus: int = 1
    accel: Accel = Accel.KVM
    cpu: str = ""
    firmware: str = ""
    links: frozenset[Link] = frozenset()
    vsock: Vsock = Vsock.NONE
    seqpacket: bool = True
    drives: tuple[Drive, ...] = ()
    boots_again: bool = False
    ssh_forward: int | None = None
