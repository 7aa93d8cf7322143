"""What the agent knows about its guest and itself."""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH115, PTH208

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import threading

from .wire import WIRE_VERSION

VERSION = "1"
_PROC = "/proc"


def hello(agent: str, channel: str) -> dict[str, str | int | float | None]:
    """HELLO's answer: who answers, over which channel (``vsock`` or a device's path)."""
    return {
        "agent": agent,
        "version": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "kernel": os.uname().release,
        "boot_id": _read("sys/kernel/random/boot_id").strip(),
        "uptime": float(_read("uptime").split()[0]),
        "channel": channel,
        "cid": _cid(),
        "wire": WIRE_VERSION,
    }


def _cid() -> int | None:
    """The CID that this machine has for its host, None if it has no vsock device (vsock(7))."""
    try:
        device = os.open("/dev/vsock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
    except OSError:
        return None
    finally:
        os.close(device)
    (cid,) = struct.unpack("=I", answer)
    return None if cid == socket.VMADDR_CID_ANY else cid


def facts() -> dict[str, int]:
    """What the agent's process holds: ``fds``, ``sockets``, ``threads``, ``rss_kib``, ``pss_kib``.

    Memory as /proc/self/smaps_rollup says (Linux 4.14), 0 where the kernel does not.
    """
    links = [_link(name) for name in os.listdir(f"{_PROC}/self/fd")]
    return {
        "fds": sum(link is not None for link in links),
        "sockets": sum(link is not None and link.startswith("socket:") for link in links),
        "threads": threading.active_count(),
        "rss_kib": _memory("Rss:"),
        "pss_kib": _memory("Pss:"),
    }


def _read(name: str) -> str:
    with open(f"{_PROC}/{name}", encoding="ascii") as file:
        return file.read()


def _link(name: str) -> str | None:
    try:
        return os.readlink(f"{_PROC}/self/fd/{name}")
    except FileNotFoundError:  # the listing's own descriptor, or one closed meanwhile
        return None


def _memory(field: str) -> int:
    try:
        rollup = _read("self/smaps_rollup")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith(field)), 0)
