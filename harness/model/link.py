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

    @property
    def is_serial_port(self) -> bool:
        """Whether the link is a serial port: one channel, a guest device and a host Unix socket."""
        return self is not Link.VSOCK


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a client reaches the agent over `link`: `cid` and `port` for vsock, else a Unix socket `path`."""

    link: Link
    cid: int | None = None
    port: int | None = None
    path: str | None = None
