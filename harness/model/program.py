"""Other people's programs in a guest, and the host's own tools that speak to them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.model.link import AGENT_PORT, Link

PORT_NAME = "vsock-harness.program"
"""What a program's port of its own is called on a virtio-serial bus."""

DEVICE = "/dev/program"
"""Where a program finds its own serial port in the guest, whichever that is."""

PORTS = (1, 0xFFFFFFFE)
"""vsock ports, but for VMADDR_PORT_ANY (vsock(7)); `AGENT_PORT` is not free either."""


class ProgramName(StrEnum):
    """Programs that can be put into a guest: those of guest-images/programs/recipe.toml."""

    NBDKIT = "nbdkit"
    QEMU_GA = "qemu-ga"
    SOCAT = "socat"
    SSHD = "sshd"


class Tool(StrEnum):
    """Programs of the host that are clients of one in the guest."""

    SOCAT = "socat"  # says lines, hears lines
    NBDCOPY = "nbdcopy"  # copies nbdkit's pattern disk
    SSH = "ssh"  # has sshd run cat, says lines, hears lines

    @property
    def links(self) -> tuple[Link, ...]:
        """Over which it gets there."""
        return (Link.VSOCK, Link.VIRTIO_SERIAL, Link.ISA_SERIAL) if self is Tool.SOCAT else (Link.VSOCK,)

    @property
    def steps(self) -> tuple[str, ...]:
        """What its clients can do."""
        return ("copy" if self is Tool.NBDCOPY else "exchange", "wait-for", "leave")


class ProgramPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that is put into the guest; with `run` it also runs there from before the first client on.

    `port`: the vsock port on which it is to listen then.
    """

    name: ProgramName
    run: tuple[str, ...] = ()
    port: int | None = None


class ToolPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group's clients are this tool, each a process of its own, that speaks to the program `to`."""

    name: Tool
    to: ProgramName


def is_free(port: int) -> bool:
    """Whether a program may listen on a vsock port."""
    return PORTS[0] <= port <= PORTS[1] and port != AGENT_PORT
