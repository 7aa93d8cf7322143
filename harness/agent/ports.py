"""Which serial devices of this guest the agent serves: found in sysfs, announced by the kernel's uevents."""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH110, PTH118, PTH119, PTH208

from __future__ import annotations

import errno
import os
import socket

from .errnos import errno_name

AGENT_PORT_NAME = "vsock-harness.agent"
"""How the name= of every virtio port that leads to the agent begins; QEMU wants names to be unique."""

PROXY_PORT_NAME = f"{AGENT_PORT_NAME}.proxy"
"""The name of the port behind a multiplexing proxy: yamux is spoken there."""

_SURELY_PORTS = (AGENT_PORT_NAME, PROXY_PORT_NAME)
"""Names that no console has; its own has more behind."""

_NETLINK_KOBJECT_UEVENT = 15  # linux/netlink.h


def find(root: str = "/") -> list[str]:
    """The devices to serve, below `root`: virtio ports, consoles on virtio ports, the second PC serial port.

    A kernel console is never among them, nor a PC serial port without hardware behind it.
    """
    kernel_consoles = _read(root, "sys/class/tty/console/active").split()
    found = _virtio(root)
    # The 8250 driver makes nodes for ports that do not exist; their type is 0, PORT_UNKNOWN.
    if (
        os.path.exists(os.path.join(root, "dev/ttyS1"))
        and _read(root, "sys/class/tty/ttyS1/type").strip() != "0"
    ):
        found.append("ttyS1")
    return [os.path.join(root, "dev", name) for name in found if name not in kernel_consoles]


def is_multiplexed(device: str, root: str = "/") -> bool:
    """Whether a device that `find` gave is the port where a proxy speaks yamux."""
    folder = os.path.join(root, "sys/class/virtio-ports", os.path.basename(device))
    return _read(folder, "name").strip() == PROXY_PORT_NAME


def announcements() -> socket.socket:
    """A socket that gets one message from the kernel each time a device comes, changes or goes.

    :raise OSError: if the kernel does not give it.
    """
    listener = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT
    )
    try:
        listener.bind((0, 1))
    except OSError:
        listener.close()
        raise
    return listener


def _virtio(root: str) -> list[str]:
    """Ports of our name, as ``vportNpM`` or, where the port is a console, ``hvcN``.

    A console's port cannot be opened (ENXIO, drivers/char/virtio_console.c port_fops_open), and nothing
    in sysfs says which hvc it is: hvc_alloc gives numbers in the order in which the consoles came.
    Ports with another name are not opened to find out, as their host's end would see it.
    """
    folder = os.path.join(root, "sys/class/virtio-ports")
    try:
        ports = sorted(os.listdir(folder), key=_port_order)
    except FileNotFoundError:
        return []
    found = []
    consoles = 0
    for port in ports:
        name = _read(folder, f"{port}/name").strip()
        if name and not name.startswith(AGENT_PORT_NAME):
            continue
        device = os.path.join(root, "dev", port)
        # To close a port throws away what its client has sent (port_fops_release), so ours are not tried.
        is_console = _is_console(device) if name not in _SURELY_PORTS else _is_there(device)
        if name and is_console is not None:
            found.append(f"hvc{consoles}" if is_console else port)
        consoles += bool(is_console)
    return found


def _port_order(port: str) -> tuple[int, ...]:
    """``vport2p10`` comes after ``vport2p9``."""
    return tuple(int(number) for number in port.removeprefix("vport").split("p") if number.isdigit())


def _is_there(device: str) -> bool | None:
    """Of a port that is no console: False; None if there is no such device."""
    return False if os.path.exists(device) else None


def _is_console(device: str) -> bool | None:
    """Whether a port is a console; None if there is no such device."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return None
        return error.errno == errno.ENXIO  # EBUSY: it is open already, in this agent
    return False


def _read(*path: str) -> str:
    try:
        with open(os.path.join(*path), encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def try_open(device: str) -> str | None:
    """Open and close a device; the errno's name if it cannot be opened."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        return errno_name(error)
    except ValueError:  # a NUL in the path
        return "EINVAL"
    return None
