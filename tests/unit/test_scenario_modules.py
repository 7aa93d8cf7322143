"""Scenarios that are Python modules: their own functions go red where the system is another one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.host.keeper import MARK
from harness.host.runfolder import RunFolder
from harness.model.errors import DeadlinePassed
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.trace import Event
from harness.run.pod import Pod
from tests.unit import broken
from tests.unit.agents import unix_agent
from tests.unit.densities import GOOD, PLAIN, measured
from tests.unit.meetings import Fake
from tests.unit.modules import Pods, Told, guest, module, pod
from tests.unit.systems import changed, late
from tests.unit.traces import right

PACKETS = module("test_packets")
DENSITY = module("test_high_density")
RELIABILITY = module("test_reliability")

NOTHING_LOST = "no write is lost"
LARGE_LOST = "the guest's writes of 32769 and 65536 bytes are lost without an error"


def written(link: Link, agent: str, folder: Path) -> Told:
    """What `test_large_writes` records of an agent that is broken by these words; it must fail."""
    told = Told()
    with unix_agent(agent) as path, pytest.raises(AssertionError, match="Differing items"):
        PACKETS.test_large_writes(link, Pods(lambda: pod(path), folder), told)
    return told


def test_large_writes_that_are_lost_turn_it_red(tmp_path: Path) -> None:
    told = written(Link.VSOCK, broken.DROPS_LARGE_WRITES, tmp_path)
    assert told == {"expected": NOTHING_LOST, "seen": LARGE_LOST}


def test_large_writes_that_come_where_they_were_lost_turn_it_red(tmp_path: Path) -> None:
    told = written(Link.HYBRID_VSOCK, "", tmp_path)
    assert told == {"expected": LARGE_LOST, "seen": NOTHING_LOST}


def test_large_writes_that_are_lost_on_dialled_connections_alone_turn_it_red(tmp_path: Path) -> None:
    told = written(Link.VSOCK, broken.DROPS_LARGE_WRITES_WHERE_IT_DIALLED, tmp_path)
    assert told["seen"] == f"{NOTHING_LOST}; {LARGE_LOST}"


def test_large_writes_that_do_not_reach_the_guest_turn_it_red(tmp_path: Path) -> None:
    told = Told()
    with (
        unix_agent(broken.SEES_LARGE_DATA_WRONG) as path,
        pytest.raises(AssertionError, match=r"not \[65536, 65536\]"),
    ):
        PACKETS.test_large_writes(Link.VSOCK, Pods(lambda: pod(path), tmp_path), told)
    assert told["seen"] == f"{NOTHING_LOST}; the host's of [65536, 65536] do not arrive"


@pytest.mark.parametrize(
    ("link", "agent"), [(Link.VSOCK, ""), (Link.HYBRID_VSOCK, broken.DROPS_LARGE_WRITES)]
)
def test_large_writes_as_known_pass(link: Link, agent: str, tmp_path: Path) -> None:
    with unix_agent(agent) as path:
        PACKETS.test_large_writes(link, Pods(lambda: pod(path), tmp_path), Told())


@pytest.mark.parametrize(("kernel", "agent"), [("6.1.192", ""), ("6.12.118", broken.DROPS_LARGE_WRITES)])
def test_which_large_writes_are_lost_is_the_guests_kernels_doing(
    kernel: str, agent: str, tmp_path: Path
) -> None:
    with unix_agent(agent) as path:
        PACKETS.test_large_writes(Link.HYBRID_VSOCK, Pods(lambda: pod(path), tmp_path, guest(kernel)), Told())


class Processes:
    """Processes of a run, which end with the test."""

    def __init__(self, folder: RunFolder, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def start(self) -> int:
        """One that bears the run's mark; its id."""
        environment = {**os.environ, MARK: str(self.folder.path)}
        argv = [sys.executable, "-c", "input()"]
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process.pid


@pytest.fixture
def started(folder: RunFolder) -> Iterator[Processes]:
    with contextlib.ExitStack() as stack:
        yield Processes(folder, stack)


def ten_clients(link: Link, path: Path, started: Processes, *, device: bool, extra: int = 0) -> Told:
    """What the scenario records, of a pod with `extra` processes of which it says nothing."""
    told = Told()

    def clone() -> Any:
        made = pod(path, started.start(), started.start() if device else None)
        for _ in range(extra):
            started.start()
        return made

    place = SimpleNamespace(folder=started.folder)
    try:
        DENSITY.test_no_proxy_serves_ten_clients(link, Pods(clone, path.parent, place), told)
    except AssertionError as failed:
        told("failed", str(failed))
    return told


@pytest.mark.parametrize(
    ("link", "device", "words"),
    [(Link.VSOCK, False, "QEMU alone"), (Link.HYBRID_VSOCK, True, "QEMU and its vsock device")],
)
def test_a_process_more_turns_ten_clients_red(
    link: Link, device: bool, words: str, many: Path, started: Processes
) -> None:
    told = ten_clients(link, many, started, device=device)
    assert "failed" not in told
    assert str(told["seen"]).startswith(words)
    told = ten_clients(link, many, started, device=device, extra=1)
    assert "Extra items in the left set" in str(told["failed"])
    assert told["expected"] == words
    assert str(told["seen"]).startswith("processes [")


def test_an_agent_that_serves_one_turns_ten_clients_red(
    started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DENSITY, "slowness", lambda: 0.05)
    with unix_agent(broken.SERVES_ONE_AT_A_TIME) as path, pytest.raises((DeadlinePassed, OSError)):
        ten_clients(Link.VSOCK, path, started, device=False)


def test_a_proxy_that_costs_nothing_turns_its_memory_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, request = Told(), SimpleNamespace()
    found = [GOOD, measured((0.0,) * 6, PLAIN, PLAIN, text=0.0)]

    async def measure(place: object, folder: Path) -> object:
        return found.pop(0)

    monkeypatch.setattr(DENSITY.density, "measured", measure)
    pods = Pods(lambda: None, tmp_path)
    DENSITY.test_a_proxy_costs_memory_in_each_pod(pods, told, request)
    with pytest.raises(AssertionError, match="proxy"):
        DENSITY.test_a_proxy_costs_memory_in_each_pod(pods, told, request)


class Restores:
    """Restores of a pod that is no VM; the nth leaves the trace that `traces` has in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.moved: list[object] = []
        self.told = Told()
        self._folder = folder
        monkeypatch.setattr(RELIABILITY.platform, "release", lambda: "6.12")
        monkeypatch.setattr(RELIABILITY, "copying", lambda *_: None)
        monkeypatch.setattr(RELIABILITY, "PodFault", self)
        monkeypatch.setattr(RELIABILITY.record, "facts", lambda *_: {})
        self._set = monkeypatch.setattr

    @contextlib.asynccontextmanager
    async def prepared(self, plan: Plan, pod: Pod, slowness: float, copying: None) -> Any:
        self.moved.append(pod.machine)
        deed = Fake()
        yield SimpleNamespace(machine=self._machine(), do=deed.do, undo=deed.undo)

    def run(self, *traces: Any) -> Told:
        """The scenario's own function, with traces in the place of what clients see."""
        left = list(traces)

        async def run_plan(plan: Plan, *_: object, **__: object) -> list[Event]:
            found: list[Event] = left.pop(0)(plan)
            return found

        self._set(RELIABILITY, "run_plan", run_plan)

        def make() -> Pod:
            nobody: Any = None
            return Pod(machine=self._machine(), hello=nobody, seconds={})

        RELIABILITY.test_restored_again_and_again(Pods(make, self._folder), self.told)
        return self.told

    def _machine(self) -> Any:
        monitor = SimpleNamespace(version="10.0")
        return SimpleNamespace(endpoint=lambda link: Endpoint(link=link, cid=42), monitor=monitor)

    def written(self) -> list[str]:
        """Of each restore, what its verdict says, from the files that it left."""
        found = sorted(self._folder.glob("restore-*"))
        assert all((folder / "trace.jsonl").stat().st_size for folder in found)
        texts = [msgspec.json.decode((folder / "verdict.json").read_bytes()) for folder in found]
        return [text["outcome"] for text in texts]


@pytest.fixture
def restores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Restores:
    return Restores(monkeypatch, tmp_path)


def test_five_restores_pass(restores: Restores) -> None:
    told = restores.run(*[right] * 5)
    assert str(told["seen"]).startswith("5 restores; the end was seen after 0.03 to 0.03 s")
    assert len(set(map(id, restores.moved))) == 5, "each of the one before"
    assert restores.written() == ["passed"] * 5


def test_a_restore_that_shows_something_else_turns_it_red(restores: Restores) -> None:
    def other(plan: Plan) -> list[Event]:
        return changed(right(plan), "idle/1", {"guest": "nothing"})

    with pytest.raises(AssertionError, match="one more item"):
        restores.run(right, right, right, other)
    fact = "fact guest of idle/1 is nothing, expected ECONNRESET"
    assert restores.told["seen"] == f"3 restores, then vsock: {fact}"
    assert restores.written() == [*["passed"] * 3, "failed"]


def test_a_restore_has_as_much_time_as_its_host_was_slow_just_before(
    restores: Restores, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = iter([1.0, 1.0, 1.0, 8.0, 1.0])
    monkeypatch.setattr(RELIABILITY, "measure", lambda: next(slow))
    noticed = late("idle/0", "host", 0.28)
    with pytest.raises(AssertionError, match="one more item"):
        restores.run(right, right, right, noticed, noticed)
    late_end = "vsock: the host's end of idle/0 noticed after 0.28 s, expected within 0.2 s"
    assert restores.told["seen"] == f"4 restores, then {late_end}"
    assert restores.written() == [*["passed"] * 4, "failed"]


def test_a_restore_that_does_not_come_turns_it_red(restores: Restores) -> None:
    def late(plan: Plan) -> list[Event]:
        raise DeadlinePassed("the copy did not start")

    with pytest.raises(DeadlinePassed, match="the copy did not start"):
        restores.run(right, right, late)
    assert restores.told["seen"] == "2 restores, then something else"
