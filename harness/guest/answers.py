"""What the agent answers, as its client reads it."""

from __future__ import annotations

import msgspec


class Hello(msgspec.Struct, frozen=True):
    """Who answers: digest of the agent's files, versions, the guest's boot, the channel it came by.

    `cid` is the guest's own, None if it has no vsock device.
    """

    agent: str
    version: str
    python: str
    kernel: str
    boot_id: str
    uptime: float
    channel: str
    wire: int
    cid: int | None = None


class Ended(msgspec.Struct, frozen=True):
    """How a connection ended at the agent: ``eof`` or the errno's name, so many seconds `ago`."""

    how: str
    ago: float


class Facts(msgspec.Struct, frozen=True):
    """What the agent's process holds now, for all clients. `ended`: how labelled ones' connections ended;
    `removed`: how many seconds ago the last container of a labelled one that went was reaped."""

    fds: int
    sockets: int
    threads: int
    rss_kib: int
    pss_kib: int
    sessions: int
    containers: int
    ended: dict[str, Ended] = {}
    removed: dict[str, float] = {}


class Device(msgspec.Struct, frozen=True):
    """Of OPEN_DEVICE: whether it opened, else why not; no `device` if the link in use has none."""

    opened: bool
    errno: str | None
    device: str | None


class Wrong(msgspec.Struct, frozen=True):
    """The first difference that the agent saw: the byte, and up to 16 bytes from there on, in hex."""

    at: int
    expected: str
    seen: str


class Done(msgspec.Struct, frozen=True):
    """Of SINK: bytes that came, and what was wrong with them."""

    bytes: int
    wrong: Wrong | None
