"""What is done to a pod for each fault: with a VM that only writes down what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.model.deadline import Deadline, until
from harness.model.fault import FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.steps import MeetFault
from harness.plugin.item import ScenarioItem
from harness.run import faults
from harness.run.aftermath import Aftermath, control_link
from harness.run.arrival import Arrival
from harness.run.faults import PodFault
from harness.run.meeting import After
from harness.vm import commandline
from tests.unit.fake_vm import FakeVm, done, wish
from tests.unit.hangs import HANGS
from tests.unit.running import endpoint, group, plan

pytestmark = pytest.mark.usefixtures("nobody_ends")


@pytest.mark.parametrize(
    ("kind", "said", "alive"),
    [
        (FaultKind.QEMU_KILL, ["may end", "kill"], False),
        (FaultKind.QEMU_QUIT, ["may end", "quit"], False),
        (FaultKind.PAUSE, ["may end", "stop", "cont"], True),
        (FaultKind.SHIM_KILL, ["may end", "clients killed"], True),
    ],
)
def test_what_the_vm_is_told(vm: FakeVm, kind: FaultKind, said: list[object], alive: bool) -> None:
    after = done(wish(kind), vm)
    assert vm.said == said
    assert after == (After(ended={}, containers=0) if alive else After(agent=False))


def test_a_guest_that_boots_again_is_waited_for(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Endpoint] = []
    monkeypatch.setattr(Aftermath, "answered", lambda self, endpoint, patience: asked.append(endpoint))
    assert done(wish(FaultKind.GUEST_RESET), vm) == After()
    assert asked == [endpoint(vm.path)]
    assert vm.said == ["may end", ("set-action", {"reboot": "reset"}), "system_reset"]


def test_into_one_without_an_agent_of_its_own_it_is_put_again_before_it_is_asked(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Aftermath, "answered", lambda self, endpoint, patience: vm.said.append("asked"))

    async def again(machine: object, deadline: Deadline) -> None:
        assert machine is vm
        assert 100 < (deadline.remaining() or 0) <= 150
        vm.said.append("put there")

    arrival = SimpleNamespace(again=again, seconds=150.0)
    done(wish(FaultKind.GUEST_RESET), vm, arrival=arrival)
    assert vm.said[-3:] == ["system_reset", "put there", "asked"]


@pytest.mark.parametrize(("kind", "more"), [(FaultKind.GUEST_RESET, 150.0), (FaultKind.PAUSE, 0.0)])
def test_a_plan_may_take_as_much_longer_as_its_guest_boots(kind: FaultKind, more: float) -> None:
    item: Any = SimpleNamespace(plan=wish(kind))
    pod: Any = SimpleNamespace(arrival=SimpleNamespace(seconds=150.0))
    assert ScenarioItem._boots_again(item, pod) == more


def test_another_device_is_plugged_in(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = object()
    claim = SimpleNamespace(claim=lambda: contextlib.nullcontext(lease))
    monkeypatch.setattr(faults, "CidLease", claim)
    assert done(wish(FaultKind.UNPLUG), vm) == After(endpoint=endpoint(vm.path), ended={}, containers=0)
    assert vm.said == ["may end", "unplug", ("plug", lease)]


def test_a_device_that_is_a_process_is_plugged_in_again(vm: FakeVm) -> None:
    """It has no CID that could move."""
    hybrid = msgspec.structs.replace(wish(FaultKind.UNPLUG), link=Link.HYBRID_VSOCK)
    device = SimpleNamespace(sockets=object())
    assert done(hybrid, vm, device=device) == After(ended={}, containers=0)
    assert vm.said == ["may end", "unplug", ("plug", device.sockets)]


@pytest.mark.parametrize("link", [Link.VIRTIO_SERIAL, Link.SERIAL_PROXY])
def test_the_port_is_unplugged_and_its_like_plugged_in(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, link: Link
) -> None:
    asked: list[Link] = []

    def where(link: Link) -> Endpoint:
        asked.append(link)
        return endpoint(vm.path)

    monkeypatch.setattr(vm, "endpoint", where)
    port = msgspec.structs.replace(wish(FaultKind.UNPLUG), link=link)
    assert done(port, vm) == After(ended={}, containers=0)
    gone, there = vm.said[1:]
    assert gone == ("device_del", {"id": f"{link}-port"})
    assert there == ("device_add", commandline.PORT_DEVICES[link])
    assert set(asked) == {control_link(link)}  # a client may still have the port's only place


def test_the_proxy_is_killed_and_nobody_blamed(vm: FakeVm) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    allowed: list[bool] = []

    async def ended() -> None:
        await asyncio.to_thread(process.wait)

    allow = partial(allowed.append, True)
    proxy = SimpleNamespace(pid=process.pid, ended=ended, allow_end=allow, over=True)
    done(wish(FaultKind.PROXY_KILL), vm, proxy)
    assert (process.returncode, allowed) == (-signal.SIGKILL, [True])


def in_guest(vm: FakeVm, kind: FaultKind, told: Path) -> Iterator[str]:
    """What the command in the guest has written before the fault, after it, and after it is undone."""
    pod: Any = SimpleNamespace(machine=vm, proxy=None, device=None, arrival=Arrival())

    def text() -> str:
        return told.read_text() if told.exists() else ""

    async def all_of_it() -> list[str]:
        found: list[str] = []
        async with PodFault.prepared(wish(kind), pod, 1.0) as fault:
            assert fault is not None
            found.append(text())
            await fault.do(lambda: None)
            until(lambda: text().count("\n") == 1, Deadline(HANGS), "the first line")
            await fault.undo()
            if kind is FaultKind.UNBIND:
                until(lambda: text().count("\n") == 2, Deadline(HANGS), "the second line")
            return [*found, *text().split()]

    yield from asyncio.run(all_of_it())


def test_what_is_done_in_the_guest_waits_for_its_time(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    monkeypatch.setitem(faults.IN_GUEST, FaultKind.GUEST_PANIC, f"echo $PPID >> {told}; read line")
    before, parent = in_guest(vm, FaultKind.GUEST_PANIC, told)
    assert before == ""
    assert b"agent.__main__" in Path(f"/proc/{parent}/cmdline").read_bytes()
    assert vm.said == ["may crash"]


def test_the_driver_is_bound_again(vm: FakeVm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"echo un >> {told}; read line; echo re >> {told}; read line"
    monkeypatch.setitem(faults.IN_GUEST, FaultKind.UNBIND, script)
    assert list(in_guest(vm, FaultKind.UNBIND, told)) == ["", "un", "re"]


def test_no_fault_is_none() -> None:
    pod: Any = None

    async def none() -> None:
        async with PodFault.prepared(plan(group("a", MeetFault(doing=While.IDLE))), pod, 1.0) as fault:
            assert fault is None

    asyncio.run(none())


@pytest.mark.parametrize("link", [Link.VSOCK, Link.SERIAL_PROXY])
def test_a_restored_copy_goes_on_with_the_memory_that_was_left(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: Link
) -> None:
    """It has a CID of its own if it has a vsock device; and a proxy of its own, where clients find it."""
    state, memory, claimed = tmp_path / "state", object(), object()
    saved: list[float] = []
    state.touch()

    async def save(monitor: object, to: Path, deadline: object) -> None:
        vm.said.append(("save", to))
        saved.append(time.monotonic())

    @contextlib.asynccontextmanager
    async def start(*_: object, **how: Any) -> AsyncIterator[FakeVm]:
        vm.said.append(("start", how["ram"], how["incoming"], how["lease"]))
        yield vm

    @contextlib.asynccontextmanager
    async def beside(*how: Any) -> AsyncIterator[SimpleNamespace]:
        vm.said.append(("beside", *how[:2]))
        yield SimpleNamespace(endpoint=endpoint(tmp_path / "another"), over=False)

    monkeypatch.setattr("harness.vm.template.save", save)
    monkeypatch.setattr(faults, "Machine", SimpleNamespace(start=start))
    monkeypatch.setattr(faults, "CidLease", SimpleNamespace(claim=lambda: contextlib.nullcontext(claimed)))
    monkeypatch.setattr(faults, "beside", beside)
    old = SimpleNamespace(allow_end=lambda: vm.said.append("proxy may end"))
    proxy = old if link.is_proxied else None
    pod: Any = SimpleNamespace(machine=vm, proxy=proxy, device=None, memory=memory, arrival=Arrival())
    folder: Any = SimpleNamespace(path=tmp_path)
    place: Any = SimpleNamespace(qemu=None, folder=folder, pod=lambda *_: None, proxy=("multiplex",))
    copy = msgspec.structs.replace(faults.copying(place, pod, tmp_path), state=state)
    moved = msgspec.structs.replace(wish(FaultKind.RESTORE), link=link)

    async def all_of_it() -> After:
        async with PodFault.prepared(moved, pod, 1.0, copy) as fault:
            assert fault is not None
            when = await fault.do(lambda: None)
            assert when.began <= saved[0] <= when.at  # the VM is stopped to be saved: that is seen already
            return await fault.undo()

    where = asyncio.run(all_of_it()).endpoint
    lease = claimed if link is Link.VSOCK else None
    told = ["may end", ("save", state), "quit", ("start", memory, state, lease)]
    if link.is_proxied:
        told[1:1] = ["proxy may end"]
        told += [("beside", vm, ("multiplex",))]
    assert vm.said == told
    assert where == endpoint(tmp_path / "another" if link.is_proxied else vm.path)
    assert not state.exists()
