"""The links: ways from host to guest. Each is a column of the claims table."""

from __future__ import annotations

from enum import StrEnum

import msgspec

AGENT_PORT = 1024
"""The vsock port the agent listens on."""


class Link(StrEnum):
    """A way from host to guest. Values are the names used in scenario files and reports."""

    VSOCK = "vsock"
    VIRTIO_SERIAL = "virtio-serial"
    VIRTCONSOLE = "virtconsole"
    ISA_SERIAL = "isa-serial"
    SERIAL_PROXY = "serial-proxy"
    HYBRID_VSOCK = "hybrid-vsock"

    @property
    def is_vsock(self) -> bool:
        """Whether the guest speaks AF_VSOCK. A guest has one vsock device, so a VM has one of these links."""
        return self in (Link.VSOCK, Link.HYBRID_VSOCK)

    @property
    def is_serial_port(self) -> bool:
        """Whether QEMU gives it a serial port: one channel, a guest device and a host Unix socket.

        That has one client at a time. Of `SERIAL_PROXY` that client is a proxy, and it has many.
        """
        return not self.is_vsock

    @property
    def is_proxied(self) -> bool:
        """Whether clients connect to a proxy, which has QEMU's end of the port for itself."""
        return self is Link.SERIAL_PROXY

    @property
    def backend(self) -> str:
        """The device that gives the guest this link, by QEMU's name: what a verdict is about."""
        return _BACKENDS[self]


_BACKENDS = {
    Link.VSOCK: "vhost-vsock-pci",
    Link.VIRTIO_SERIAL: "virtserialport",
    Link.VIRTCONSOLE: "virtconsole",
    Link.ISA_SERIAL: "isa-serial",
    Link.SERIAL_PROXY: "virtserialport",
    Link.HYBRID_VSOCK: "vhost-user-vsock-pci",
}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a client reaches the agent over `link`: `cid` and `port` for vsock, else a Unix socket `path`.

    Of hybrid-vsock it has `path` and `port`: the socket is asked for the port.
    """

    link: Link
    cid: int | None = None
    port: int | None = None
    path: str | None = None
