"""Memory of pods with a multiplexing proxy and without one, as it was measured: the claim `high-density`."""

from __future__ import annotations

import msgspec

PAGE_MB = 4.5
"""What the page says that a proxy costs a pod. Measured on the proxy of its time: RSS of an idle one."""

FILE = "density.json"
"""The file in a test's evidence: a `Density`."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has in memory, in bytes (proc_pid_smaps(5)).

    `rss` counts each page in full; `pss` one that n processes map as its nth part; `uss` only the pages that
    no other process maps, so what would be free if this process alone ended.
    """

    rss: int
    pss: int
    uss: int


class PodMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One pod: its QEMU, its proxy if it has one, and how many processes there are for it in all."""

    qemu: Memory
    proxy: Memory | None = None
    processes: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """All pods, when there were so many of each kind, once nothing changed any more.

    `looks`: how often the last pair was looked at until then.
    """

    proxied: tuple[PodMemory, ...]
    plain: tuple[PodMemory, ...]
    looks: int


class Density(msgspec.Struct, frozen=True, kw_only=True):
    """1, 2, … pairs of a pod with a proxy and one without; all idle, each greeted by one client.

    `used` is of some of the last step's proxies, while `clients` clients of each held a connection over which
    `echoed` bytes had gone each way. `proxy` is its command line's first word.
    """

    steps: tuple[Step, ...]
    used: tuple[Memory, ...]
    clients: int
    echoed: int
    proxy: str
    host_kernel: str
    guest_kernel: str
    qemu: str
