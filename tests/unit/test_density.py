"""Density, as it is measured: when memory has settled, pairs of pods. No VM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.model.density import Memory, Step
from harness.model.errors import DeadlinePassed, HostUnfit, SystemFailure
from harness.run import density as run
from tests.unit.densities import GOOD, memory, red


@pytest.mark.parametrize(("free", "pairs"), [(800, 4), (1100, 5), (64_000, run.MOST_PAIRS)])
def test_there_are_as_many_pairs_as_memory_carries(free: int, pairs: int) -> None:
    assert run.affordable(free) == pairs


def test_too_little_memory_for_a_figure_is_no_figure() -> None:
    with pytest.raises(HostUnfit, match="799 MiB of memory are free, 800 are needed for 4 pairs"):
        run.affordable(799)


# when it is read


def looks(*values: Sequence[int]) -> run.Read:
    """Each process's PSS, look after look; the last one for ever."""
    told = {pid: iter(of) for pid, of in enumerate(values)}
    last: dict[int, int] = {}

    def read(pid: int) -> Memory:
        last[pid] = next(told[pid], last.get(pid, 0))
        return Memory(rss=0, pss=last[pid], uss=0)

    return read


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_EVERY", 0.0)


@pytest.mark.usefixtures("hurry")
def test_two_looks_that_agree_on_each_process_are_settled() -> None:
    step = run.AGREEMENT + 1
    # the sum is the same from the first: one grows by what the other gives back
    read = looks([0, step, 2 * step, 2 * step], [2 * step, step, 0, 0])
    assert asyncio.run(run.settled([0, 1], read)) == 4


@pytest.mark.usefixtures("hurry")
def test_what_never_settles_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_SETTLES_WITHIN", 0.001)
    read = looks([run.AGREEMENT * 2 * number for number in range(1_000_000)])
    with pytest.raises(DeadlinePassed, match="memory of 1 processes that settles"):
        asyncio.run(run.settled([0], read))


class World:
    """Pods that are started and ended, and their processes; `extra` is started beside each vsock pod."""

    def __init__(self, extra: int = 0) -> None:
        self.running: set[int] = set()
        self.busy: set[int] = set()
        self.busiest = 0
        self.order: list[bool] = []
        self.extra = extra
        self.broken = False

    @contextlib.asynccontextmanager
    async def clone(self, proxied: bool) -> AsyncIterator[Any]:
        first = 100 * len(self.order)
        self.order.append(proxied)
        proxy = SimpleNamespace(pid=first + 1) if proxied else None
        mine = {first, first + 1} if proxy else {first, *range(first + 10, first + 10 + self.extra)}
        self.running |= mine
        hello = SimpleNamespace(kernel="6.12")
        self.busy.add(first)
        self.busiest = max(self.busiest, len(self.busy))

        async def execute(command: str) -> dict[str, Any]:
            if command == "query-version":
                return {"qemu": {"major": 10, "minor": 0, "micro": 3}, "package": "Debian"}
            assert command in ("stop", "cont")
            (self.busy.add if command == "cont" else self.busy.remove)(first)
            return {}

        machine = SimpleNamespace(pid=first, monitor=SimpleNamespace(execute=execute))
        try:
            yield SimpleNamespace(machine=machine, proxy=proxy, hello=hello, check=self.check)
        finally:
            self.running -= mine

    async def check(self) -> None:
        if self.broken:
            raise SystemFailure("the proxy ended by itself")

    def read(self, pid: int) -> Memory:
        assert pid in self.running
        return memory(1.0 if pid % 100 else 40.0)

    def count(self) -> frozenset[int]:
        return frozenset(self.running)

    async def steps(self, pairs: int) -> tuple[Step, ...]:
        async with contextlib.AsyncExitStack() as stack:
            of = run.Pairs(self.clone, self.read, self.count)
            found = tuple([await of.further(stack) for _ in range(pairs)])
            assert (of.guest_kernel, await of.qemu()) == ("6.12", "10.0.3")
            return found


@pytest.mark.usefixtures("hurry")
def test_pairs_are_added_one_by_one_the_first_of_each_alternating() -> None:
    world = World()
    steps = asyncio.run(world.steps(3))
    assert world.order == [True, False, False, True, True, False]
    assert [(len(step.proxied), len(step.plain)) for step in steps] == [(1, 1), (2, 2), (3, 3)]
    assert {(pod.processes, pod.proxy) for pod in steps[2].proxied} == {(2, memory(1.0))}
    assert {(pod.processes, pod.proxy) for pod in steps[2].plain} == {(1, None)}
    assert world.busiest == 2  # the others are paused
    assert not world.running


@pytest.mark.usefixtures("hurry")
def test_a_pod_that_went_wrong_gives_no_figure() -> None:
    world = World()
    world.broken = True
    with pytest.raises(SystemFailure):
        asyncio.run(world.steps(1))
    assert not world.running


@pytest.mark.usefixtures("hurry")
def test_used_proxies_settle_together_and_their_pods_are_paused_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    talked: list[int] = []
    settled: list[Sequence[int]] = []

    async def settle(pids: Sequence[int], read: run.Read) -> int:
        settled.append(pids)
        assert len(talked) == len(world.busy)
        return 2

    async def used() -> tuple[Memory, ...]:
        async with contextlib.AsyncExitStack() as stack:
            of = run.Pairs(world.clone, world.read, world.count)
            for _ in range(4):
                await of.further(stack)
            monkeypatch.setattr(run, "settled", settle)
            return await of.used()

    monkeypatch.setattr(run, "_talk", lambda pod, *_: talked.append(pod.proxy.pid))
    assert asyncio.run(used()) == (memory(1.0),) * run.USED
    assert settled == [talked]
    assert len(talked) == run.USED
    assert not world.busy


@pytest.mark.usefixtures("hurry")
def test_a_vsock_pod_with_a_process_beside_qemu_is_red() -> None:
    steps = asyncio.run(World(extra=1).steps(3))
    found = red(msgspec.structs.replace(GOOD, steps=steps))
    assert "pod 1 without one has 2 processes, expected 1" in found
