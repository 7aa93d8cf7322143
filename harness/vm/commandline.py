"""From a wish to QEMU's argument list: one pure function, held by golden files.

Facts about options are from qemu(1) and QEMU's docs/system/invocation.rst; what they do at the edges was
tried with QEMU 10.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.spec import Accel, Drive, MachineSpec, Qemu, Vsock

PORT_NAMES = {
    Link.VIRTIO_SERIAL: "vsock-harness.agent",
    Link.VIRTCONSOLE: "vsock-harness.agent.console",
    Link.SERIAL_PROXY: "vsock-harness.agent.proxy",
}
"""By these the agent finds its virtio ports in ``/sys/class/virtio-ports/*/name``. QEMU wants a name to be
unique in the machine, whatever the bus (find_port_by_name in hw/char/virtio-serial-bus.c)."""

HOTPLUG_BUS = "hotplug0"
"""Id of the empty PCIe port that takes a vsock device later."""

VSOCK_ID = "vsock0"
"""Id of the vsock device, of either backend, on the command line and when plugged in."""

PORT_DEVICES = {
    link: {
        "driver": "virtserialport",
        "bus": f"{bus}.0",
        "chardev": link.value,
        "name": PORT_NAMES[link],
        "id": f"{link}-port",
    }
    for link, bus in ((Link.VIRTIO_SERIAL, "serial-bus"), (Link.SERIAL_PROXY, "proxy-bus"))
}
"""The ports that can be plugged in, as QMP's device_add would have them."""

PORTS = 8
"""How many ports the bus of the link virtio-serial has room for: number 0 is kept for a console, then come
ours and some to plug in. QEMU's own 31 are two queues each, whether a port is there or not."""

_ONE_PORT = 2
"""For a bus with one port: with less than 2 ports have no names (VIRTIO_CONSOLE_F_MULTIPORT)."""

VHOST_USER_ID = "vhost-user"
"""Id of the chardev that leads to the process of a vhost-user-vsock-pci."""

SEQPACKET_OFF = {"seqpacket": "off"}
"""What a vhost-vsock-pci gets to be without SOCK_SEQPACKET; QEMU's own is auto (hw/virtio/vhost-vsock.c)."""

SPARE_ID = "spare"
"""Id of the spare port's chardev."""

# COM3 by its addresses, whose usual interrupt is the console's; 5 is free, and ACPI tells the guest
# (isa_build_aml and serial_isa_build_aml, hw/char/serial-isa.c)
_SPARE = ("-chardev", f"null,id={SPARE_ID}", "-device", f"isa-serial,chardev={SPARE_ID},index=2,irq=5")

KERNEL_PARAMETERS = (
    # Early messages too: a kernel that dies before its console driver would end without a word.
    "earlyprintk=ttyS0,115200",
    "console=ttyS0",
    # Warnings and worse. `quiet` (4) would hide WARN_ON, which prints at level 4; the default (7) costs
    # seconds of serial output per boot under emulation.
    "loglevel=5",
    # Reset at once on a panic: it ends the VM (-action reboot=shutdown) instead of looping for ever in a
    # guest that has no pvpanic driver.
    "panic=-1",
)
"""What every guest kernel gets. Not in it, on purpose: `random.trust_cpu` (the default since Linux 6.2,
and virtio-rng is there) and `tsc=reliable` (it would hide a clock that really is bad)."""

EMULATED_CPU = "max,erms=off,fsrm=off,fzrm=off,fsrs=off,fsrc=off,la57=off"
"""All that TCG has, but for what is slow there.

On a CPU with fast `rep movsb` Linux copies by that between a process and a socket or a file, and TCG does it
byte by byte: without, a socket pair moved 64 KiB four times as fast. With five-level page tables (la57) each
miss of the TLB, which every switch of a nested guest empties, has a level more to walk.
"""

KVM_PARAMETERS = (
    # A clone's TSC is another machine's, which Linux's watchdog finds soon after the restore and says in five
    # warnings, each byte of which leaves the guest: 0.2 to 0.5 s of a lab. Its clock is kvm-clock anyway.
    "tsc=unstable",
)
"""What a guest kernel under KVM gets beside those."""


class RamFile(msgspec.Struct, frozen=True, kw_only=True):
    """Guest memory in a file: `share` writes to the file, else it is mapped copy-on-write.

    `fixed`: the file can't be written. QEMU opens it for writing unless told so, whatever `share` is.
    """

    path: Path
    share: bool
    fixed: bool = False


class VhostUser(msgspec.Struct, frozen=True, kw_only=True):
    """A vhost-user device, which is another process: QEMU connects to `socket`, clients to `uds`."""

    socket: Path
    uds: Path


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """What one run adds to a spec: file descriptors that QEMU inherits, and paths.

    `incoming`: wait for a saved machine instead of booting (`harness.vm.template`). Kernel and initramfs
    are in its memory by then: reading them again would double the time that QEMU takes to start. Only one
    that is to boot again (`MachineSpec.boots_again`) needs them.
    `qmp_fd` is a connected Unix socket, each of `link_fds` a listening one, `vhost_fd` an open
    ``/dev/vhost-vsock`` that holds `cid`; with hotplug, of a device that was plugged in when the machine was
    saved. `vhost_user` takes their place where the vsock device is a process.
    """

    qmp_fd: int
    console: Path
    link_fds: Mapping[Link, int] = {}
    cid: int | None = None
    vhost_fd: int | None = None
    vhost_user: VhostUser | None = None
    ram: RamFile | None = None
    incoming: bool = False


def build(spec: MachineSpec, qemu: Qemu, wiring: Wiring) -> list[str]:
    """The whole argument list, `qemu.argv` first. Same arguments, same list.

    :raise UsageError: a cold vsock device without a CID and its fd, or a link without its socket.
    """
    return [
        *qemu.argv,
        *_machine(spec, wiring),
        *(_kernel(spec) if spec.boots_again or not wiring.incoming else []),
        *_monitor(wiring),
        *_console(wiring),
        *_links(spec, wiring),
        *_vsock(spec, wiring),
        *_drives(spec.drives),
        *_network(spec),
        *(["-incoming", "defer"] if wiring.incoming else []),
    ]


def _options(*first: str, **options: object) -> str:
    """QEMU's ``first,key=value,…``; a comma in a value is written twice, an underscore in a key is a dash."""
    pairs = [f"{key.replace('_', '-')}={str(value).replace(',', ',,')}" for key, value in options.items()]
    return ",".join([*first, *pairs])


def _without_hpet(spec: MachineSpec) -> dict[str, str]:
    """KVM guests have kvm-clock and the LAPIC's timer, and no use for QEMU's HPET.

    Linux stops using it early in its boot, and QEMU (hw/timer/hpet.c) goes on waking up at its last rate,
    250 times a second, for ever: 30 % of a lab's CPU for each idle VM, seen with QEMU 10.0.13 and Linux 6.12.
    """
    return {"hpet": "off"} if spec.accel is Accel.KVM else {}


def _machine(spec: MachineSpec, wiring: Wiring) -> list[str]:
    size = f"{spec.memory_mib}M"
    if wiring.ram is None and wiring.vhost_user:
        # The process that is the device reads and writes the guest's memory, so it has to be shared.
        ram = _options("memory-backend-memfd", id="ram", size=size, share="on")
    elif wiring.ram is None:
        ram = _options("memory-backend-ram", id="ram", size=size)
    else:
        share = "on" if wiring.ram.share else "off"
        fixed = {"readonly": "on", "rom": "off"} if wiring.ram.fixed else {}
        path = wiring.ram.path
        ram = _options("memory-backend-file", id="ram", size=size, mem_path=path, share=share, **fixed)
    return [
        *("-name", _options(guest=spec.name)),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *("-machine", _options("q35", memory_backend="ram", **_without_hpet(spec))),
        *("-accel", spec.accel.value),
        *("-cpu", spec.cpu or ("host" if spec.accel is Accel.KVM else EMULATED_CPU)),
        *("-smp", str(spec.vcpus)),
        *("-m", size),
        *("-object", ram),
        # A reset (also a triple fault) ends the VM with a SHUTDOWN event that says guest-reset; a panic
        # stops it with GUEST_PANICKED and leaves it there to be looked at.
        *("-action", "reboot=shutdown,panic=pause"),
        *("-device", "pvpanic-pci"),
        # Each clone of a saved machine gets another generation id, on which Linux reseeds its random numbers
        # (drivers/virt/vmgenid.c).
        *("-device", "vmgenid,guid=auto"),
        # Entropy, so that nothing in the guest's boot waits for it.
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng0"),
    ]


def _kernel(spec: MachineSpec) -> list[str]:
    under_kvm = KVM_PARAMETERS if spec.accel is Accel.KVM else ()
    append = " ".join([*KERNEL_PARAMETERS, *under_kvm, spec.append]).strip()
    firmware = ["-bios", spec.firmware] if spec.firmware else []
    return [*firmware, "-kernel", str(spec.kernel), "-initrd", str(spec.initrd), "-append", append]


def _monitor(wiring: Wiring) -> list[str]:
    # One end of a socket pair: nobody else can connect, and its EOF is QEMU's end.
    return [
        *("-chardev", _options("socket", id="qmp", fd=wiring.qmp_fd)),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def _console(wiring: Wiring) -> list[str]:
    return [
        *("-chardev", _options("file", id="console", path=wiring.console, append="off")),
        *("-device", "isa-serial,chardev=console,index=0"),
    ]


def _words(device: dict[str, str]) -> list[str]:
    return [device["driver"], *(f"{key}={value}" for key, value in device.items() if key != "driver")]


def _links(spec: MachineSpec, wiring: Wiring) -> list[str]:
    console = PORT_NAMES[Link.VIRTCONSOLE]
    ports = {link: ",".join(_words(device)) for link, device in PORT_DEVICES.items()}
    devices = {
        # The id is what makes QEMU report VSERPORT_CHANGE (hw/char/virtio-console.c).
        Link.VIRTIO_SERIAL: (
            f"virtio-serial-pci,id=serial-bus,max_ports={PORTS}",
            ports[Link.VIRTIO_SERIAL],
        ),
        Link.VIRTCONSOLE: (
            f"virtio-serial-pci,id=console-bus,max_ports={_ONE_PORT}",
            f"virtconsole,bus=console-bus.0,chardev=virtconsole,name={console},id=virtconsole-port",
        ),
        Link.ISA_SERIAL: ("isa-serial,chardev=isa-serial,index=1",),
        Link.SERIAL_PROXY: (
            f"virtio-serial-pci,id=proxy-bus,max_ports={_ONE_PORT}",
            ports[Link.SERIAL_PROXY],
        ),
    }
    result: list[str] = []
    for link, wanted in devices.items():
        if link not in spec.links:
            continue
        if link not in wiring.link_fds:
            raise UsageError(f"machine {spec.name}: link {link} has no socket to listen on")
        chardev = _options("socket", id=link, fd=wiring.link_fds[link], server="on", wait="off")
        result += ["-chardev", chardev]
        for device in wanted:
            result += ["-device", device]
        if link is Link.ISA_SERIAL:
            result += _SPARE
    return result


def _vsock(spec: MachineSpec, wiring: Wiring) -> list[str]:
    match spec.vsock:
        case Vsock.NONE:
            return []
        case Vsock.HOTPLUG:
            port = ["-device", f"pcie-root-port,id={HOTPLUG_BUS},chassis=1,slot=1"]
            return port if wiring.cid is None else [*port, *_vsock_device(spec, wiring, bus=HOTPLUG_BUS)]
        case Vsock.COLD if wiring.vhost_user:
            chardev = _options("socket", id=VHOST_USER_ID, path=wiring.vhost_user.socket)
            device = _options("vhost-user-vsock-pci", id=VSOCK_ID, chardev=VHOST_USER_ID)
            return ["-chardev", chardev, "-device", device]
        case Vsock.COLD:
            if wiring.cid is None or wiring.vhost_fd is None:
                raise UsageError(
                    f"machine {spec.name}: vsock is cold but no CID lease was given",
                    hint="pass lease=, or make the spec's vsock hotplug or none",
                )
            return _vsock_device(spec, wiring)


def _vsock_device(spec: MachineSpec, wiring: Wiring, **place: str) -> list[str]:
    wanted = {"id": VSOCK_ID, **place, "guest-cid": wiring.cid, "vhostfd": wiring.vhost_fd}
    off = {} if spec.seqpacket else SEQPACKET_OFF
    return ["-device", _options("vhost-vsock-pci", **wanted, **off)]


def _drives(drives: tuple[Drive, ...]) -> list[str]:
    result: list[str] = []
    for number, drive in enumerate(drives):
        node = f"drive{number}"
        read_only = "on" if drive.read_only else "off"
        blockdev = {"driver": "raw", "node-name": node, "read-only": read_only}
        file = {"file.driver": "file", "file.filename": str(drive.path)}
        result += ["-blockdev", _options(**blockdev, **file)]
        result += ["-device", _options("virtio-blk-pci", drive=node)]
    return result


def _network(spec: MachineSpec) -> list[str]:
    if spec.ssh_forward is None:
        return []
    forward = f"tcp:127.0.0.1:{spec.ssh_forward}-:22"
    return [
        # restrict=on: the guest reaches nothing outside; only this one forward leads in.
        *("-netdev", _options("user", id="net0", restrict="on", hostfwd=forward)),
        # No boot ROM: nothing boots from the network.
        *("-device", "virtio-net-pci,netdev=net0,romfile="),
    ]
