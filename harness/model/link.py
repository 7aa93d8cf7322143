"""The links: ways from host to guest. Each is a column of the claims table."""

from __future__ import annotations

from enum import StrEnum


class Link(StrEnum):
    """A way from host to guest. Values are the names used in scenario files and reports."""

    VSOCK = "vsock"
    VIRTIO_SERIAL = "virtio-serial"
    VIRTCONSOLE = "virtconsole"
    ISA_SERIAL = "isa-serial"

    @property
    def multi_client(self) -> bool:
        """Whether the link itself, not the agent, allows several clients at once."""
        return self is Link.VSOCK

    @property
    def is_serial_port(self) -> bool:
        """Whether the link is a serial port: one channel, a guest device and a host Unix socket."""
        return self is not Link.VSOCK
