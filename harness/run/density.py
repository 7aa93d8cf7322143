"""Measures what pods take in memory, with a proxy and without: pairs of clones, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import msgspec

from harness.guest.client import AgentClient
from harness.host.admission import free_mib
from harness.host.memory import of_process, processes, without_huge_pages
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until_async
from harness.model.density import FILE, Density, Memory, PodMemory, Step
from harness.model.errors import DeadlinePassed, HostUnfit
from harness.model.link import Link
from harness.run.greeting import greet
from harness.run.place import Place
from harness.run.pod import Pod, cloned

MOST_PAIRS = 6
"""More would take longer than they would tell."""

FEWEST_PAIRS = 4
"""With three, Student's t is 4.3 for two degrees of freedom: an interval of fewer says nothing."""

PAIR_MIB = 200
"""What is free for each pair before the first one starts; a clone takes 50 to 60 MiB of its own."""

AGREEMENT = 32 << 10
"""Bytes by which the PSS of a process may differ between two looks that agree."""

_EVERY = 0.25
"""Seconds between two looks on a plain machine."""

_WITHIN = 25.0
_SETTLES_WITHIN = 3.0
_CLIENTS_WITHIN = 8.0
"""Seconds for all of it, for one pair's memory, for one proxy's clients; times the host's slowness."""

USED = 3
CLIENTS = 10
ECHOED = 100_000
"""Proxies that get clients, clients of each, bytes that each of these has echoed."""

Clone: TypeAlias = Callable[[bool], AbstractAsyncContextManager[Pod]]
Read: TypeAlias = Callable[[int], Memory]
Count: TypeAlias = Callable[[], frozenset[int]]


def affordable(free: int) -> int:
    """How many pairs fit into so much free memory, in MiB.

    :raise HostUnfit: too few to tell anything.
    """
    pairs = min(MOST_PAIRS, free // PAIR_MIB)
    if pairs < FEWEST_PAIRS:
        raise HostUnfit(
            f"{free} MiB of memory are free, {FEWEST_PAIRS * PAIR_MIB} are needed for {FEWEST_PAIRS} pairs",
            ability="memory",
            hint="a lab with --lab-memory 4096",
        )
    return pairs


async def measured(place: Place, folder: Path) -> Density:
    """Pairs of a pod with a proxy and one without at `place`, in steps; `folder` gets their evidence.

    All have a vsock device, and nothing but the proxy and the port that it uses differs in a pair.

    :raise HostUnfit: as `affordable`, and where pods or proxies can't be run.
    :raise InfrastructureError: a process can't be read; its memory does not settle in time.
    :raise SystemFailure: something went wrong with a pod or its proxy.
    """
    numbers = iter(range(1, 2 * MOST_PAIRS + 1))

    @contextlib.asynccontextmanager
    async def clone(proxied: bool) -> AsyncIterator[Pod]:
        link = Link.SERIAL_PROXY if proxied else Link.VSOCK
        async with cloned(place, {Link.VSOCK, link}, folder / f"pod-{next(numbers)}-{link}") as pod:
            await greet(pod.machine, link, place.agent, pod.proxy)
            yield pod

    deadline = Deadline(_WITHIN * slowness())
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(without_huge_pages())
        pairs = Pairs(clone, of_process, lambda: processes(place.folder))
        try:
            async with asyncio.timeout(deadline.remaining()):
                steps = [await pairs.further(stack) for _ in range(affordable(free_mib()))]
                used = await pairs.used()
                qemu = await pairs.qemu()
        except TimeoutError:
            raise DeadlinePassed(
                f"the memory of pods was not measured within {deadline.seconds:.0f} s"
            ) from None
        kernel = pairs.guest_kernel
    return Density(
        steps=tuple(steps),
        used=used,
        clients=CLIENTS,
        echoed=ECHOED,
        proxy=Path(place.proxy[0]).name if place.proxy else "",
        host_kernel=platform.release(),
        guest_kernel=kernel,
        qemu=qemu,
    )


def write(folder: Path, density: Density) -> None:
    """Write `density.json` into `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(density)) + b"\n")


class Pairs:
    """Pods of both kinds, always as many of the one as of the other; `clone(True)` makes one with a proxy.

    Both kinds map the same template, so each has half of what is shared, from the first pair to the last; and
    what a busy neighbour does to one pod of a pair, it does to the other: which is first, alternates.

    VMs whose memory has settled are paused: it stays as it is, and they take no time from the others. (Seven
    that only idle are more than an emulated CPU can do.)

    A pod's processes are those that are new since the pod before it was there.
    """

    def __init__(self, clone: Clone, read: Read, count: Count) -> None:
        self._clone = clone
        self._read = read
        self._count = count
        self._pods: dict[bool, list[tuple[Pod, int]]] = {True: [], False: []}
        self._known = count()

    @property
    def guest_kernel(self) -> str:
        """Of the pods."""
        return self._pods[False][0][0].hello.kernel

    async def qemu(self) -> str:
        """The version of QEMU, as it says it itself (QMP's query-version)."""
        said = await self._pods[False][0][0].machine.monitor.execute("query-version")
        return f"{said['qemu']['major']}.{said['qemu']['minor']}.{said['qemu']['micro']}"

    async def further(self, stack: contextlib.AsyncExitStack) -> Step:
        """One more pair, which `stack` ends; all pods' memory, once it has settled."""
        order = list(self._pods)
        if len(self._pods[False]) % 2:
            order.reverse()
        pair = []
        for proxied in order:
            pod = await stack.enter_async_context(self._clone(proxied))
            pair.append(pod)
            before, self._known = self._known, self._count()
            self._pods[proxied].append((pod, len(self._known - before)))
        looks = await settled([pid for pod in pair for pid in _pids(pod)], self._read)
        for pod in pair:
            await _pause(pod)
        pods = [pod for of in self._pods.values() for pod, _ in of]
        for pod in pods:
            await pod.check()
        found = {pid: self._read(pid) for pod in pods for pid in _pids(pod)}

        def told(proxied: bool) -> tuple[PodMemory, ...]:
            return tuple(
                PodMemory(
                    qemu=found[pod.machine.pid],
                    proxy=found[pod.proxy.pid] if pod.proxy else None,
                    processes=number,
                )
                for pod, number in self._pods[proxied]
            )

        return Step(proxied=told(True), plain=told(False), looks=looks)

    async def used(self) -> tuple[Memory, ...]:
        """The memory of `USED` proxies with `CLIENTS` clients each, which moved `ECHOED` bytes both ways."""
        pods = [pod for pod, _ in self._pods[True]][:USED]
        pids = [pod.proxy.pid for pod in pods if pod.proxy]
        data = (bytes(range(256)) * (ECHOED // 256 + 1))[:ECHOED]
        with contextlib.ExitStack() as clients:
            for pod in pods:
                await pod.machine.monitor.execute("cont")
                await asyncio.to_thread(_talk, pod, clients, data)
            await settled(pids, self._read)
            for pod in pods:
                await _pause(pod)
                await pod.check()
            return tuple(self._read(pid) for pid in pids)


async def _pause(pod: Pod) -> None:
    await pod.machine.monitor.execute("stop")


def _pids(pod: Pod) -> list[int]:
    return [pod.machine.pid, *([pod.proxy.pid] if pod.proxy else [])]


def _talk(pod: Pod, clients: contextlib.ExitStack, data: bytes) -> None:
    """Connect clients that `clients` ends, and have each echo `data`."""
    deadline = Deadline(_CLIENTS_WITHIN * slowness())
    for _ in range(CLIENTS):
        client = clients.enter_context(AgentClient(connect(pod.endpoint(Link.SERIAL_PROXY))))
        client.echo(data, deadline=deadline)


async def settled(pids: Sequence[int], read: Read) -> int:
    """Return once two looks in a row at each one's memory agree (`AGREEMENT`); how many it took.

    :raise DeadlinePassed: they never do.
    """
    looks: list[dict[int, int]] = []

    def steady() -> bool:
        looks.append({pid: read(pid).pss for pid in pids})
        before, now = looks[-2:] if len(looks) > 1 else ({}, looks[0])
        return bool(before) and all(abs(now[pid] - before[pid]) <= AGREEMENT for pid in pids)

    deadline = Deadline(_SETTLES_WITHIN * slowness())
    every = _EVERY * min(slowness(), 3)
    what = f"memory of {len(pids)} processes that settles"
    await until_async(lambda: steady() or None, deadline, what, every=every)
    return len(looks)
