"""Serial ports of a running machine that come and go: the link virtio-serial's, others for other agents."""

from __future__ import annotations

from pathlib import Path

from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.vm.commandline import PORT_DEVICES, SPARE_ID
from harness.vm.monitor import Monitor


async def plug_port(monitor: Monitor, name: str, path: Path, deadline: Deadline) -> None:
    """Plug a virtserialport called `name` into the bus of the link virtio-serial; the host's end is the Unix
    socket `path`, on which QEMU listens by its own ways (backlog 1) when this returns.

    The guest needs a moment to find it. An isa-serial port can't be plugged in: the ISA bus has no hotplug;
    see `wire_spare_port`.

    :raise CommandFailed: the machine has no such bus, or has a port of that name.
    """
    chardev = f"chardev-{name}"
    await monitor.execute("chardev-add", {"id": chardev, "backend": _socket(path)}, deadline=deadline)
    device = {"driver": "virtserialport", "bus": "serial-bus.0", "chardev": chardev, "name": name}
    await monitor.execute("device_add", {**device, "id": f"port-{name}"}, deadline=deadline)


async def unplug_agent_port(monitor: Monitor, link: Link, deadline: Deadline) -> None:
    """Take out the port of virtio-serial or serial-proxy; returns when QEMU has no such device any more,
    which asks no guest. Its chardev stays, and so does a connection to that, which nobody reads from then on.

    :raise CommandFailed: there is none.
    """
    port = PORT_DEVICES[link]["id"]
    with monitor.events("DEVICE_DELETED") as events:
        await monitor.execute("device_del", {"id": port}, deadline=deadline)
        while (await events.get(deadline)).get("data", {}).get("device") != port:
            pass


async def plug_agent_port(monitor: Monitor, link: Link, deadline: Deadline) -> None:
    """Plug in a port as the one that `unplug_agent_port` took out, with its chardev, at another number.

    :raise CommandFailed: there is one.
    """
    await monitor.execute("device_add", PORT_DEVICES[link], deadline=deadline)


async def wire_spare_port(monitor: Monitor, path: Path, deadline: Deadline) -> None:
    """Give the spare isa-serial port (`MachineSpec.links`) its host's end, as `plug_port` does; the
    guest has had it since its boot, and sees no change.

    :raise CommandFailed: the machine has none.
    """
    await monitor.execute("chardev-change", {"id": SPARE_ID, "backend": _socket(path)}, deadline=deadline)


def _socket(path: Path) -> dict[str, object]:
    address = {"type": "unix", "data": {"path": str(path)}}
    return {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
