"""The devices of a machine around a fake QEMU: links, vsock that is plugged in and out, ports."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.errors import SystemFailure, UsageError
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.model.spec import Qemu, Vsock
from harness.vm.commandline import PORTS, VhostUser, Wiring, build
from harness.vm.machine import Machine
from harness.vm.monitor import CommandFailed
from harness.vm.ports import plug_port, wire_spare_port
from tests.unit.hangs import HANGS
from tests.unit.machines import FAKE, HOTPLUG, SPEC, FakeLease, Starter, is_dev_null, nothing


def test_links_listen_before_qemu_asks_and_stop_with_it(start: Starter) -> None:
    serial = frozenset({Link.VIRTIO_SERIAL, Link.VIRTCONSOLE, Link.ISA_SERIAL})

    async def scenario(machine: Machine) -> set[str]:
        paths = {machine.endpoint(link).path or "" for link in serial}
        for path in paths:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        with pytest.raises(
            UsageError, match="has no link vsock; it has: isa-serial, virtconsole, virtio-serial"
        ):
            machine.endpoint(Link.VSOCK)
        return paths

    paths = start(scenario, spec=msgspec.structs.replace(SPEC, links=serial))
    assert len(paths) == 3
    for path in paths:
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
            client.connect(path)


def test_two_machines_in_one_run_folder(start: Starter, tmp_path: Path) -> None:
    spec = msgspec.structs.replace(SPEC, links=frozenset({Link.ISA_SERIAL}))
    qemu = Qemu(argv=(sys.executable, str(FAKE)))

    async def scenario(first: Machine) -> None:
        async with Machine.start(
            spec, qemu, start.folder, log_folder=tmp_path / "second", deadline=Deadline(HANGS)
        ) as second:
            assert first.endpoint(Link.ISA_SERIAL) != second.endpoint(Link.ISA_SERIAL)

    start(scenario, spec=spec)


def test_a_cold_lease_is_qemus_alone(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> Endpoint:
        os.set_blocking(lease.reader, False)
        with pytest.raises(BlockingIOError):
            os.read(lease.reader, 1)  # QEMU holds it
        await machine.quit()
        assert os.read(lease.reader, 1) == b""  # and nobody else did
        return machine.endpoint(Link.VSOCK)

    spec = msgspec.structs.replace(HOTPLUG, vsock=Vsock.COLD)
    assert start(scenario, spec=spec, lease=lease) == Endpoint(link=Link.VSOCK, cid=4711, port=AGENT_PORT)
    assert f"vhost-vsock-pci,id=vsock0,guest-cid=4711,vhostfd={lease.fd}" in start.log("qemu.cmdline")


def test_plug_and_unplug(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease)
        assert machine.endpoint(Link.VSOCK).cid == 4711
        assert os.read(lease.reader, 100) == b"QEMU has it"
        assert is_dev_null(lease.fd)  # our copy is closed
        with pytest.raises(UsageError, match="no free port"):
            await machine.plug_vsock(lease)
        await machine.unplug_vsock(Deadline(HANGS))
        with pytest.raises(UsageError, match="has no link vsock"):
            machine.endpoint(Link.VSOCK)

    start(scenario, spec=HOTPLUG)
    assert '"driver": "vhost-vsock-pci"' in start.log("console.log")


def test_a_device_without_seqpacket(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease, seqpacket=False)

    start(scenario, spec=HOTPLUG)
    assert '"seqpacket": "off"' in start.log("console.log")


@pytest.mark.parametrize(("behaviour", "asked"), [("", 6), ("old", 2)])
def test_a_device_that_is_a_process_is_plugged_in_by_its_socket(
    start: Starter, folder: RunFolder, behaviour: str, asked: int
) -> None:
    process = VhostUser(socket=folder.socket(f"vhost{asked}"), uds=folder.socket("hybrid"))

    async def scenario(machine: Machine) -> None:
        for _ in range(2):  # nothing of the first is left that were in the way
            await machine.plug_vsock(process)
            wanted = Endpoint(link=Link.HYBRID_VSOCK, path=str(process.uds), port=AGENT_PORT)
            assert machine.endpoint(Link.HYBRID_VSOCK) == wanted
            with pytest.raises(UsageError, match="has no link vsock"):
                machine.endpoint(Link.VSOCK)
            await machine.unplug_vsock(Deadline(HANGS))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(process.socket))
        listener.listen()
        start(scenario, behaviour, spec=HOTPLUG)
    assert '"driver": "vhost-user-vsock-pci"' in start.log("console.log")
    # until the driver has started it; a QEMU that can't tell is asked once
    assert start.log("qmp.jsonl").count('"execute": "x-query-virtio-status"') == asked


def test_a_further_port_is_plugged_in_behind_its_socket(start: Starter, tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await plug_port(machine.monitor, "another.agent", tmp_path / "s", Deadline(HANGS))

    start(scenario)
    chardev, device = map(json.loads, start.log("console.log").splitlines()[-2:])
    assert chardev["backend"]["data"] == {
        "addr": {"type": "unix", "data": {"path": str(tmp_path / "s")}},
        "server": True,
        "wait": False,
    }
    assert device["chardev"] == chardev["id"]
    assert (device["name"], device["bus"]) == ("another.agent", "serial-bus.0")
    wiring = Wiring(qmp_fd=3, console=Path("console"), link_fds={Link.VIRTIO_SERIAL: 4})
    links = msgspec.structs.replace(SPEC, links=frozenset({Link.VIRTIO_SERIAL}))
    assert f"virtio-serial-pci,id=serial-bus,max_ports={PORTS}" in build(links, Qemu(), wiring)
    assert PORTS > 2  # number 0 is a console's, 1 is the agent's


def test_a_spare_port_is_wired_to_its_socket(start: Starter, tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await wire_spare_port(machine.monitor, tmp_path / "s", Deadline(HANGS))

    start(scenario)
    change = json.loads(start.log("console.log").splitlines()[-1])
    assert change["id"] == "spare"
    assert change["backend"]["data"]["addr"]["data"] == {"path": str(tmp_path / "s")}


def test_refused_plug_leaves_the_lease_alone(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        with contextlib.closing(FakeLease(666)) as lease:
            with pytest.raises(CommandFailed, match="Address already in use"):
                await machine.plug_vsock(lease)
            os.write(lease.fd, b"still ours")
            assert os.read(lease.reader, 100) == b"still ours"
            with pytest.raises(UsageError):
                machine.endpoint(Link.VSOCK)

    start(scenario, spec=HOTPLUG)


def test_guest_that_refuses_to_unplug(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease)
        with pytest.raises(SystemFailure, match="refused to unplug"):
            await machine.unplug_vsock(Deadline(HANGS))

    start(scenario, "refuses-unplug", spec=HOTPLUG)


def test_a_lease_for_a_machine_that_cannot_take_it(start: Starter, lease: FakeLease) -> None:
    with pytest.raises(UsageError, match="not cold"):
        start(nothing, spec=HOTPLUG, lease=lease)
