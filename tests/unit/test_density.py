"""Density: the parser of smaps_rollup, when memory has settled, the statistics, what is red. No VM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.host.runfolder import RunFolder
from harness.judge import density as judge
from harness.model.density import FILE, Density, Memory, PodMemory, Step
from harness.model.errors import DeadlinePassed, HostUnfit, InfrastructureError, SystemFailure, UsageError
from harness.run import density as run

ROLLUP = """\
00400000-7ffc8a9e5000 ---p 00000000 00:00 0                              [rollup]
Rss:                4388 kB
Pss:                1255 kB
Pss_Dirty:          1000 kB
Shared_Clean:       3300 kB
Shared_Dirty:          0 kB
Private_Clean:         4 kB
Private_Dirty:      1100 kB
Private_Hugetlb:    2048 kB
Swap:                  0 kB
SwapPss:               0 kB
"""


def memory(mb: float, text: float = 0.0, sharers: int = 1) -> Memory:
    """So much of its own, and text that so many processes map."""
    own = mb + (text if sharers == 1 else 0)
    return Memory(rss=round((mb + text) * 1e6), pss=round((mb + text / sharers) * 1e6), uss=round(own * 1e6))


def measured(
    proxies: Sequence[float], proxied: Sequence[float], plain: Sequence[float], text: float = 2.0
) -> Density:
    """Pods of so many MB, and proxies, which share their text."""
    steps = []
    for count in range(1, len(proxies) + 1):
        with_one = tuple(
            PodMemory(qemu=memory(proxied[place]), proxy=memory(proxies[place], text, count), processes=2)
            for place in range(count)
        )
        without = tuple(PodMemory(qemu=memory(plain[place]), processes=1) for place in range(count))
        steps.append(Step(proxied=with_one, plain=without, looks=2))
    return Density(
        steps=tuple(steps),
        used=tuple(memory(mb + 1) for mb in proxies[:3]),
        clients=10,
        echoed=100_000,
        proxy="proxy",
        host_kernel="6.12",
        guest_kernel="6.12",
        qemu="10.0",
    )


PROXIES, PLAIN = (0.7, 0.68, 0.74, 0.71, 0.66, 0.72), (40.1, 41.2, 39.8, 40.6, 40.3, 40.9)
GOOD = measured(PROXIES, [mb + 0.1 for mb in reversed(PLAIN)], PLAIN)


# what a process has in memory


def test_a_rollup_is_read_in_bytes() -> None:
    found = run.rollup(ROLLUP)
    assert found == Memory(rss=4388 * 1024, pss=1255 * 1024, uss=(4 + 1100 + 2048) * 1024)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "x: no line Rss in kB"),
        (ROLLUP.replace("Pss: ", "Pzz: "), "x: no line Pss in kB"),
        (ROLLUP.replace("1100 kB", "1100 MB"), "x: no line Private_Dirty in kB"),
        (
            ROLLUP.replace("Swap:                  0", "Swap:                  8"),
            "x: 8192 bytes are swapped out",
        ),
    ],
)
def test_a_rollup_that_does_not_say_all_is_an_error(text: str, told: str) -> None:
    with pytest.raises(InfrastructureError, match=told):
        run.rollup(text, "x")


def test_a_process_of_ours_can_be_read_and_one_that_is_gone_can_not() -> None:
    found = run.of_process(os.getpid())
    assert found.rss >= found.pss >= found.uss > 1_000_000
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
        with pytest.raises(InfrastructureError, match=f"/proc/{gone.pid}/smaps_rollup: "):
            run.of_process(gone.pid)


def test_processes_of_a_run_are_known_by_its_mark(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path) as folder, RunFolder.create(tmp_path) as other:
        for of in (folder, other):
            before = run.processes(of)
            argv = [sys.executable, "-c", "input()"]
            environment = {**os.environ, **of.mark}
            with subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment) as child:
                assert run.processes(of) - before == {child.pid}
                child.communicate(b"\n")


@pytest.mark.parametrize(("free", "pairs"), [(800, 4), (1100, 5), (64_000, run.MOST_PAIRS)])
def test_there_are_as_many_pairs_as_memory_carries(free: int, pairs: int) -> None:
    assert run.affordable(free) == pairs


def test_too_little_memory_for_a_figure_is_no_figure() -> None:
    with pytest.raises(HostUnfit, match="799 MiB of memory are free, 800 are needed for 4 pairs"):
        run.affordable(799)


def test_processes_started_without_huge_pages_have_none() -> None:
    argv = ["sed", "-n", "s/THP_enabled:[[:space:]]*//p", "/proc/self/status"]

    def enabled() -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    before = enabled()
    with run.without_huge_pages():
        assert enabled() == "0"
    assert enabled() == before


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
            assert command == "stop"
            self.busy.remove(first)
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


# what comes of it


@pytest.mark.parametrize(
    ("degrees", "t"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (30, 2.0423),
        (120, 1.9799),
    ],
)
def test_students_t_is_as_tables_have_it(degrees: int, t: float) -> None:
    assert judge.student(degrees) == pytest.approx(t, abs=5e-5)


def test_a_mean_has_the_interval_of_its_values() -> None:
    found = judge.mean([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    assert 2 + half - 1e-6 in found
    assert 2 + half + 1e-6 not in found
    assert str(found) == "2.00 (−0.48 … 4.48)"


def test_a_slope_is_the_mean_step_whatever_is_there_at_first() -> None:
    found = judge.per_step([100.0, 101.0, 103.0, 104.5])
    assert found.mean == pytest.approx(1.5)
    assert found == judge.mean([1.0, 2.0, 1.5])
    exact = judge.per_step([3.0, 4.0, 5.0])
    assert (exact.low, exact.mean, exact.high) == (1.0, 1.0, 1.0)


def test_two_totals_are_too_few() -> None:
    with pytest.raises(UsageError, match="an interval from 1 values"):
        judge.per_step([1.0, 2.0])


def plain_least_squares(totals: Sequence[float]) -> tuple[float, float]:
    """Slope, and half of the interval, if each total had an error of its own."""
    places = range(len(totals))
    slope, start = statistics.linear_regression(places, totals)
    squares = sum((total - start - slope * place) ** 2 for place, total in zip(places, totals, strict=True))
    across = sum((place - statistics.fmean(places)) ** 2 for place in places)
    degrees = len(totals) - 2
    return slope, judge.student(degrees) * (squares / degrees / across) ** 0.5


def test_the_interval_holds_the_truth_as_often_as_it_says_and_a_straight_lines_does_not() -> None:
    """Six pods, each of which takes 1 MB more or less than the last, 3000 times."""
    draw = random.Random(4).gauss
    honest = narrow = 0
    for _ in range(3000):
        totals = [sum(steps) for steps in accumulated([draw(5.0, 1.0) for _ in range(6)])]
        honest += 5.0 in judge.per_step(totals)
        slope, half = plain_least_squares(totals)
        narrow += abs(slope - 5.0) <= half
    assert 0.93 < honest / 3000 < 0.97
    assert narrow / 3000 < 0.8


def accumulated(values: Sequence[float]) -> Iterator[Sequence[float]]:
    return (values[: count + 1] for count in range(len(values)))


def test_what_is_shared_is_no_part_of_a_slope_but_of_the_first() -> None:
    verdict = judge.judge(GOOD)
    assert not verdict.differences
    assert verdict.alone.pss == 2_700_000
    assert verdict.pss.proxy.mean == pytest.approx(statistics.fmean(PROXIES[1:]))
    assert verdict.uss.proxy.mean == pytest.approx(statistics.fmean(PROXIES))
    assert verdict.alone == memory(0.7, 2.0)
    assert 0.702 + 0.1 in verdict.pss.difference
    assert verdict.used_uss.mean == pytest.approx(statistics.fmean(PROXIES[:3]) + 1)
    assert judge.by_pss(GOOD)["proxy"][0] == pytest.approx(2.7)
    assert judge.by_uss(GOOD)["proxy"] == pytest.approx([sum(found) for found in accumulated(PROXIES)])


def test_it_is_said_in_a_line_beside_the_pages_figure() -> None:
    assert judge.seen(judge.judge(GOOD)).startswith("one more proxy 0.70 (0.66 … 0.74) MB PSS, 2.7 alone; ")
    assert judge.seen(judge.judge(GOOD)).endswith("; less than the page's 4.5 MB")
    page = measured([mb + 3.8 for mb in PROXIES], PLAIN, PLAIN)
    assert judge.against_page(judge.judge(page)) == "as the page's 4.5 MB"
    large = measured([mb + 8 for mb in PROXIES], PLAIN, PLAIN)
    assert judge.against_page(judge.judge(large)) == "more than the page's 4.5 MB"


def test_it_comes_home_as_it_was_measured(tmp_path: Path) -> None:
    run.write(tmp_path / "new", GOOD)
    assert msgspec.json.decode((tmp_path / "new" / FILE).read_bytes(), type=Density) == GOOD


# what is red


def red(density: Density) -> tuple[str, ...]:
    return judge.judge(density).differences


def test_proxies_of_which_none_is_known_to_cost_anything_are_red() -> None:
    found = red(measured([0.7, 0.1, 0.0, 2.0, 0.0, 0.1], PLAIN, PLAIN))
    assert [text.partition(": ")[0].partition(" is ")[0] for text in found] == [
        "PSS of one more proxy",
        "USS of one more proxy",
    ]
    assert all("not shown to be above 0" in text for text in found)


def test_pods_without_a_proxy_that_take_more_are_red() -> None:
    found = red(measured(PROXIES, PLAIN, [mb + 5 for mb in PLAIN]))
    assert [text.split(" is ")[0] for text in found] == [
        f"{name} of a pod with a proxy minus one without" for name in ("PSS", "USS")
    ]


@pytest.mark.usefixtures("hurry")
def test_a_vsock_pod_with_a_process_beside_qemu_is_red() -> None:
    steps = asyncio.run(World(extra=1).steps(3))
    found = red(msgspec.structs.replace(GOOD, steps=steps))
    assert "pod 1 without one has 2 processes, expected 1" in found


def test_a_proxied_pod_with_a_second_process_is_red() -> None:
    last = GOOD.steps[-1]
    pods = (msgspec.structs.replace(last.proxied[0], processes=3), *last.proxied[1:])
    steps = (*GOOD.steps[:-1], msgspec.structs.replace(last, proxied=pods))
    assert red(msgspec.structs.replace(GOOD, steps=steps)) == (
        "pod 1 with a proxy has 3 processes, expected 2",
    )


def test_a_measurement_that_lacks_a_proxy_is_refused() -> None:
    steps = tuple(msgspec.structs.replace(step, proxied=step.plain) for step in GOOD.steps)
    with pytest.raises(UsageError, match="1 of 1 pods have no proxy"):
        judge.judge(msgspec.structs.replace(GOOD, steps=steps))
