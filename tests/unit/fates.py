"""What clients see of each fault where the system is as it should be, per kind of link."""

from __future__ import annotations

from harness.model.fault import FaultKind, While
from harness.model.link import Link

Seen = tuple[str, str, str, str]

GUEST = {
    FaultKind.PAUSE: "nothing",
    FaultKind.SHIM_KILL: "nothing",
    FaultKind.PROXY_KILL: "eof",
    FaultKind.UNPLUG: "ECONNRESET",
    FaultKind.UNBIND: "ECONNRESET",
    FaultKind.RESTORE: "ECONNRESET",
}
"""How the guest's end ended, where there is an agent to ask."""


def _met(idle: Seen, sending: Seen, receiving: Seen, connecting: tuple[str, str]) -> dict[While, Seen]:
    connects = (connecting[0], "", "", connecting[1])
    listens = ("nothing", "", "", connecting[1])
    return dict(zip(While, (idle, sending, receiving, connects, listens), strict=True))


_CUT = ("ECONNRESET", "ECONNRESET", "gone", "ENODEV")
_MOVED = ("ECONNRESET", "ECONNRESET", "gone", "served")
_MUTE = ("nothing", "ok", "served", "served")
_DEAD = ("nothing", "ok", "silent", "ETIMEDOUT")
_FORGOTTEN = ("nothing", "ok", "EPIPE", "served")
_CLOSED = ("eof", "EPIPE", "gone", "ECONNRESET")
_UNPROXIED = ("eof", "EPIPE", "gone", "ECONNREFUSED")
_QUIT = ("eof", "EPIPE", "gone", "ENOENT")
_UNHEARD = ("nothing", "ok", "silent", "silent")
_GONE_AWAY = ("nothing", "ok", "eof", "ENOENT")
_REPLACED = ("eof", "EPIPE", "gone", "served")


def _blocked(seen: Seen) -> Seen:
    """Of a sender that nobody reads from any more."""
    return (seen[0], "blocked", "silent" if seen[2] == "EPIPE" else seen[2], seen[3])


def _refused(seen: Seen) -> Seen:
    """Of a sender whose reader has closed."""
    return ("EPIPE", *seen[1:])


MET = {
    FaultKind.QEMU_KILL: _met(_CUT, _CUT, _CUT, ("ENODEV", "ENODEV")),
    FaultKind.QEMU_QUIT: _met(_CUT, _CUT, _CUT, ("ENODEV", "ENODEV")),
    FaultKind.GUEST_PANIC: _met(_DEAD, _blocked(_DEAD), _DEAD, ("ETIMEDOUT", "ETIMEDOUT")),
    FaultKind.GUEST_RESET: _met(_FORGOTTEN, _blocked(_FORGOTTEN), _FORGOTTEN, ("ETIMEDOUT", "served")),
    FaultKind.PAUSE: _met(_MUTE, _blocked(_MUTE), _MUTE, ("ETIMEDOUT", "served")),
    FaultKind.AGENT_KILL: _met(_CLOSED, _refused(_CLOSED), _CLOSED, ("ECONNRESET", "ECONNRESET")),
    FaultKind.SHIM_KILL: _met(_MUTE, _MUTE, _MUTE, ("nothing", "served")),
    FaultKind.PROXY_KILL: _met(
        _UNPROXIED, _refused(_UNPROXIED), _UNPROXIED, ("ECONNREFUSED", "ECONNREFUSED")
    ),
    FaultKind.UNPLUG: _met(_MOVED, _MOVED, _MOVED, ("ENODEV", "served")),
    FaultKind.UNBIND: _met(_FORGOTTEN, _blocked(_FORGOTTEN), _FORGOTTEN, ("ETIMEDOUT", "served")),
    FaultKind.RESTORE: _met(_MOVED, _MOVED, _MOVED, ("ENODEV", "served")),
}
"""What clients of vsock see of each fault: at once, at the next send, later, of a new connection."""


def _late(seen: Seen) -> Seen:
    """Of a sender who hears of it by what it then sends."""
    return (*seen[:2], "EPIPE", seen[3])


BEHIND_A_PORT = {
    FaultKind.QEMU_KILL: MET[FaultKind.PROXY_KILL],
    FaultKind.QEMU_QUIT: dict.fromkeys(While, _QUIT) | {While.SENDING: _refused(_QUIT)},
    FaultKind.AGENT_KILL: dict.fromkeys(While, _UNHEARD),
    FaultKind.GUEST_RESET: dict.fromkeys(While, _MUTE),
    FaultKind.UNPLUG: dict.fromkeys(While, _MUTE),
    FaultKind.RESTORE: dict.fromkeys(While, _REPLACED) | {While.SENDING: _refused(_REPLACED)},
}
"""What clients of a serial port see instead."""

BEHIND_A_PROXY = {
    FaultKind.QEMU_KILL: MET[FaultKind.PROXY_KILL],
    FaultKind.QEMU_QUIT: _met(_QUIT, _refused(_QUIT), _QUIT, ("ENOENT", "ENOENT")),
    FaultKind.GUEST_PANIC: _met(_UNHEARD, _blocked(_UNHEARD), _UNHEARD, ("nothing", "silent")),
    FaultKind.GUEST_RESET: _met(_GONE_AWAY, _late(_GONE_AWAY), _GONE_AWAY, ("nothing", "eof")),
    FaultKind.PAUSE: _met(_MUTE, _blocked(_MUTE), _MUTE, ("nothing", "served")),
    FaultKind.AGENT_KILL: _met(_UNHEARD, _UNHEARD, _UNHEARD, ("nothing", "silent")),
    FaultKind.UNPLUG: _met(_GONE_AWAY, _late(_GONE_AWAY), _GONE_AWAY, ("nothing", "eof")),
    FaultKind.RESTORE: _met(_REPLACED, _refused(_REPLACED), _REPLACED, ("ENOENT", "served")),
}
"""What clients of a proxy see instead."""

GUEST_OF_A_PORT = {FaultKind.PAUSE: "nothing", FaultKind.UNPLUG: "ENODEV", FaultKind.RESTORE: "nothing"}
"""How the guest's end of a port ended: it does not with its client."""

CALLING = {FaultKind.UNPLUG: "ENODEV", FaultKind.UNBIND: "ENODEV"}
"""How a guest's next connect() to the host fails; after other faults that it outlives none does."""

DEAF = (Link.VIRTCONSOLE, Link.ISA_SERIAL)
"""Where nothing tells the guest that its client has gone."""

GUEST_OF_A_PROXY = GUEST | {FaultKind.UNPLUG: "eof", FaultKind.RESTORE: "nothing"}
"""How the guest's end of a stream ended."""

CUT = (FaultKind.PROXY_KILL, FaultKind.UNPLUG, FaultKind.UNBIND, FaultKind.RESTORE)
"""Faults after which no container of the link's clients is left."""


_PROCESS_GONE = ("eof", "EPIPE", "gone", "ECONNRESET")
_DEVICE_GONE = ("eof", "EPIPE", "gone", "served")
ON_A_PROCESS = {
    FaultKind.GUEST_RESET: _met(_DEAD, _DEAD, _DEAD, ("ETIMEDOUT", "ETIMEDOUT")),
    FaultKind.UNPLUG: _met(_DEVICE_GONE, _refused(_DEVICE_GONE), _DEVICE_GONE, ("ENOENT", "served")),
    FaultKind.UNBIND: _met(_DEAD, _DEAD, _DEAD, ("ETIMEDOUT", "ETIMEDOUT")),
    FaultKind.QEMU_KILL: _met(_PROCESS_GONE, _refused(_PROCESS_GONE), _PROCESS_GONE, ("ECONNRESET", "EPIPE")),
    FaultKind.QEMU_QUIT: _met(_PROCESS_GONE, _refused(_PROCESS_GONE), _PROCESS_GONE, ("ECONNRESET", "EPIPE")),
    FaultKind.PAUSE: _met(_DEAD, _DEAD, _DEAD, ("ETIMEDOUT", "ETIMEDOUT")),
}
"""What clients of a vsock device that is a process see instead."""
