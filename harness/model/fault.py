"""Faults: what is done to the system while clients are in the middle of something."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.model.link import Link


class FaultKind(StrEnum):
    """What is done."""

    QEMU_KILL = "qemu-kill"  # SIGKILL
    QEMU_QUIT = "qemu-quit"  # QMP quit
    GUEST_PANIC = "guest-panic"  # its kernel panics and stays so; QEMU runs on
    GUEST_RESET = "guest-reset"  # QMP system_reset; the guest boots again if it was booted cold
    PAUSE = "pause"  # QMP stop; cont once the clients have looked
    AGENT_KILL = "agent-kill"  # SIGKILL to the agent, in the guest
    SHIM_KILL = "shim-kill"  # SIGKILL to the clients of one group
    PROXY_KILL = "proxy-kill"  # SIGKILL to the multiplexing proxy on the host
    UNPLUG = "unplug"  # QMP device_del of the vsock device or the port; then its like is plugged in
    UNBIND = "unbind"  # the guest's driver lets go of the vsock device; and takes it again
    RESTORE = "restore"  # the VM is saved and ends; a copy goes on with another CID

    @property
    def links(self) -> tuple[Link, ...]:
        """The links on which it can be done."""
        match self:
            case FaultKind.PROXY_KILL:
                return (Link.SERIAL_PROXY,)
            case FaultKind.UNBIND:
                return (Link.VSOCK, Link.HYBRID_VSOCK)
            case FaultKind.UNPLUG:
                return (Link.VSOCK, Link.VIRTIO_SERIAL, Link.SERIAL_PROXY, Link.HYBRID_VSOCK)
            case FaultKind.RESTORE:
                return tuple(link for link in Link if link is not Link.HYBRID_VSOCK)
        return tuple(Link)


class While(StrEnum):
    """What a client is in the middle of when the fault comes."""

    IDLE = "idle"  # has a connection, waits for anything to come
    SENDING = "sending"  # sends without a pause
    RECEIVING = "receiving"  # reads what the agent sends without a pause
    CONNECTING = "connecting"  # makes one connection after the other
    LISTENING = "listening"  # holds a port of the host's, which the guest has dialled once; on vsock

    @property
    def has_connection(self) -> bool:
        """Whether it is about a connection that stands, not about ones that are yet to be made."""
        return self not in (While.CONNECTING, While.LISTENING)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done once every client with a step `meet-fault` is at it. `group`: whom a shim-kill kills."""

    kind: FaultKind
    group: str | tuple[str, ...] = ""

    def kills(self, group: str) -> bool:
        """Whether it is the death of that group's clients."""
        return group == self.group if isinstance(self.group, str) else group in self.group

    def spares(self, group: str, *, elsewhere: bool) -> bool:
        """Whether it does nothing to the connections of that group: one of another VM (`elsewhere`), or one
        beside shims that are killed."""
        return elsewhere or (self.kind is FaultKind.SHIM_KILL and not self.kills(group))
