"""The command line is exactly the golden file; to accept a change, delete the file and run the test twice."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.agent import ports
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.spec import Accel, Drive, MachineSpec, Qemu, Vsock
from harness.vm.commandline import EMULATED_CPU, PORT_NAMES, RamFile, VhostUser, Wiring, build

GOLDEN = Path(__file__).parent / "golden"
LINKER = (
    "/q/usr/lib64/ld-linux-x86-64.so.2",
    "--argv0",
    "qemu-system-x86_64",
    "/q/usr/bin/qemu-system-x86_64",
)
SERIAL = frozenset({Link.VIRTIO_SERIAL, Link.VIRTCONSOLE, Link.ISA_SERIAL, Link.SERIAL_PROXY})
LINK_FDS = {Link.VIRTIO_SERIAL: 11, Link.VIRTCONSOLE: 12, Link.ISA_SERIAL: 13, Link.SERIAL_PROXY: 15}

COLD = MachineSpec(
    kernel=Path("/i/pod/vmlinux"), initrd=Path("/i/pod/initrd"), links=SERIAL | {Link.VSOCK}, vsock=Vsock.COLD
)
HOTPLUG = MachineSpec(
    kernel=Path("/i/pod/vmlinux"),
    initrd=Path("/i/pod/initrd"),
    append="loglevel=7 agent=1",
    memory_mib=192,
    accel=Accel.TCG,
    links=frozenset({Link.VSOCK, Link.VIRTIO_SERIAL}),
    vsock=Vsock.HOTPLUG,
    firmware="qboot.rom",
)
LAB = MachineSpec(
    name="lab",
    kernel=Path("/i/lab/vmlinux"),
    initrd=Path("/i/lab/initrd"),
    memory_mib=4096,
    accel=Accel.TCG,
    drives=(
        Drive(path=Path("/i/lab/root.erofs")),
        Drive(path=Path("/s/odd,name.img"), read_only=False),
    ),
    ssh_forward=0,
)
CONSOLE = Path("/log/console.log")
CASES = {
    "pod-cold": (
        COLD,
        Qemu(),
        Wiring(qmp_fd=10, console=Path("/log/a,b/console.log"), link_fds=LINK_FDS, cid=4711, vhost_fd=14),
    ),
    "pod-hotplug": (
        HOTPLUG,
        Qemu(argv=LINKER),
        Wiring(
            qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS, ram=RamFile(path=Path("/run/ram"), share=False)
        ),
    ),
    "pod-hybrid": (
        msgspec.structs.replace(COLD, links=frozenset({Link.HYBRID_VSOCK}), accel=Accel.TCG),
        Qemu(),
        Wiring(
            qmp_fd=10,
            console=CONSOLE,
            vhost_user=VhostUser(socket=Path("/run/1-vhost"), uds=Path("/run/1-hybrid")),
        ),
    ),
    "lab": (LAB, Qemu(argv=LINKER), Wiring(qmp_fd=10, console=CONSOLE)),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    argv = build(*CASES[name])
    text = "\n".join(argv) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"wrote {golden.name}: read it, then run again")
    assert text == golden.read_text()


def test_every_option_is_given_once_but_the_repeatable() -> None:
    for case in CASES.values():
        options = [arg for arg in build(*case)[len(case[1].argv) :] if re.fullmatch(r"-[a-z-]+", arg)]
        once = [o for o in options if o not in {"-device", "-chardev", "-object", "-blockdev"}]
        assert len(once) == len(set(once))


def test_ids_are_unique() -> None:
    for case in CASES.values():
        ids = [m for arg in build(*case) for m in re.findall(r"^(?!guest).*\bid=([^,]+)", arg)]
        assert len(ids) == len(set(ids))


def test_port_names_differ_and_the_agent_knows_the_port() -> None:
    assert len(set(PORT_NAMES.values())) == 3
    assert all(name.startswith(ports.AGENT_PORT_NAME) for name in PORT_NAMES.values())
    assert PORT_NAMES[Link.SERIAL_PROXY] == ports.PROXY_PORT_NAME


def test_a_device_that_was_plugged_in_is_there_from_the_start_of_a_restored_copy() -> None:
    wiring = Wiring(qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS, cid=4711, vhost_fd=14, incoming=True)
    argv = build(HOTPLUG, Qemu(), wiring)
    port, device = (argv.index(arg) for arg in argv if "hotplug0" in arg)
    assert argv[device] == "vhost-vsock-pci,id=vsock0,bus=hotplug0,guest-cid=4711,vhostfd=14"
    assert port < device


@pytest.mark.parametrize("boots_again", [False, True])
def test_only_one_that_is_to_boot_again_has_the_kernel_beside_a_saved_state(boots_again: bool) -> None:
    wiring = Wiring(qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS, incoming=True)
    argv = build(msgspec.structs.replace(HOTPLUG, boots_again=boots_again), Qemu(), wiring)
    assert [word in argv for word in ("-kernel", "-initrd", "-append")] == [boots_again] * 3


def test_cold_vsock_needs_a_lease() -> None:
    with pytest.raises(UsageError, match="no CID lease"):
        build(COLD, Qemu(), Wiring(qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS))


def test_a_cold_vsock_without_seqpacket() -> None:
    wiring = Wiring(qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS, cid=42, vhost_fd=11)
    for seqpacket in (True, False):
        argv = build(msgspec.structs.replace(COLD, seqpacket=seqpacket), Qemu(), wiring)
        device = next(word for word in argv if word.startswith("vhost-vsock-pci,"))
        assert device.endswith(",seqpacket=off") is not seqpacket


def test_a_spare_port_has_an_interrupt_that_no_other_port_has() -> None:
    wiring = Wiring(qmp_fd=10, console=CONSOLE, link_fds=LINK_FDS)
    spec = msgspec.structs.replace(HOTPLUG, links=SERIAL)
    argv = build(spec, Qemu(), wiring)
    serial = [word for word in argv if word.startswith("isa-serial,")]
    assert len(serial) == 3  # the console's, the link's
    assert serial[-1] == "isa-serial,chardev=spare,index=2,irq=5"  # COM1 has 4, COM2 3
    assert "null,id=spare" in argv
    without = msgspec.structs.replace(spec, links=SERIAL - {Link.ISA_SERIAL})
    assert "null,id=spare" not in build(without, Qemu(), wiring)


def test_a_link_needs_its_socket() -> None:
    with pytest.raises(UsageError, match="virtio-serial has no socket"):
        build(HOTPLUG, Qemu(), Wiring(qmp_fd=10, console=CONSOLE))


def test_cpu_follows_the_accelerator_unless_given() -> None:
    wiring = Wiring(qmp_fd=10, console=CONSOLE)

    def cpu(accel: Accel, cpu: str) -> str:
        argv = build(
            msgspec.structs.replace(HOTPLUG, links=frozenset(), accel=accel, cpu=cpu), Qemu(), wiring
        )
        return argv[argv.index("-cpu") + 1]

    assert cpu(Accel.KVM, "") == "host"
    assert cpu(Accel.TCG, "") == EMULATED_CPU
    assert cpu(Accel.TCG, "max") == "max"
    assert cpu(Accel.KVM, "EPYC") == "EPYC"


def test_memory_in_a_file_that_cannot_be_written_is_opened_for_reading_and_still_the_guests_to_write() -> (
    None
):
    ram = RamFile(path=Path("/run/ram"), share=False, fixed=True)
    argv = build(LAB, Qemu(), Wiring(qmp_fd=10, console=CONSOLE, ram=ram))
    told = argv[argv.index("-object") + 1]
    assert told == "memory-backend-file,id=ram,size=4096M,mem-path=/run/ram,share=off,readonly=on,rom=off"
