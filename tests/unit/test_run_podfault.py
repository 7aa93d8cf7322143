"""What is done to a pod for each fault: with a VM that only writes down what it is told, and a real agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.fault import Fault, FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.run import faults
from harness.run.faults import PodFault, control_link
from harness.run.meeting import After
from harness.vm import commandline
from tests.unit.agents import serial_like_agent, unix_agent
from tests.unit.running import endpoint, group, plan

ENDS_IN_GUEST = faults._ENDS_IN_GUEST


class FakeVm:
    """Takes note; its agent is real, on a Unix socket in the place of each link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[Any] = []
        self.monitor = SimpleNamespace(execute=self.execute, events=self.events)
        self.kill, self.quit = self.noting("kill"), self.noting("quit")

    def noting(self, word: str) -> Any:
        async def note(*arguments: object) -> None:
            self.said.append(word)

        return note

    async def execute(self, command: str, arguments: object = None, *, deadline: object = None) -> None:
        self.said.append(command if arguments is None else (command, arguments))

    async def unplug_vsock(self, deadline: object) -> None:
        self.said.append("unplug")

    async def plug_vsock(self, lease: Any, deadline: object) -> None:
        self.said.append(("plug", lease))

    def allow_end(self, *, crash: bool = False) -> None:
        self.said.append("may crash" if crash else "may end")

    def endpoint(self, link: Link) -> Endpoint:
        return endpoint(self.path)

    def events(self, *names: str) -> Any:
        return contextlib.nullcontext(SimpleNamespace(get=self.deleted))

    async def deleted(self, deadline: object) -> dict[str, Any]:
        return {"event": "DEVICE_DELETED", "data": {"device": "virtio-serial-port"}}


@pytest.fixture
def vm() -> Iterator[FakeVm]:
    with unix_agent() as path:
        yield FakeVm(path)


@pytest.fixture(autouse=True)
def _nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """These plans' clients never connect."""
    monkeypatch.setattr(faults, "_ENDS_IN_GUEST", frozenset())


def wish(kind: FaultKind) -> Plan:
    made = plan(group("idle", MeetFault(doing=While.IDLE)))
    link = kind.links[0]
    return msgspec.structs.replace(made, fault=Fault(kind=kind), link=link)


def done(what: Plan, vm: FakeVm, proxy: Any = None) -> After:
    """The fault is prepared, done and undone."""
    pod: Any = SimpleNamespace(machine=vm, proxy=proxy)

    async def all_of_it() -> After:
        async with PodFault.prepared(what, pod, 1.0) as fault:
            assert fault is not None
            before = asyncio.get_running_loop().time()
            assert await fault.do(lambda: vm.said.append("clients killed")) >= before
            return await fault.undo()

    return asyncio.run(all_of_it())


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
    monkeypatch.setattr(PodFault, "_answering", lambda self, endpoint, patience: asked.append(endpoint))
    assert done(wish(FaultKind.GUEST_RESET), vm) == After()
    assert asked == [endpoint(vm.path)]
    assert vm.said == ["may end", ("set-action", {"reboot": "reset"}), "system_reset"]


def test_another_device_is_plugged_in(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = object()
    claim = SimpleNamespace(claim=lambda: contextlib.nullcontext(lease))
    monkeypatch.setattr(faults, "CidLease", claim)
    assert done(wish(FaultKind.UNPLUG), vm) == After(endpoint=endpoint(vm.path), ended={}, containers=0)
    assert vm.said == ["may end", "unplug", ("plug", lease)]


def test_the_port_is_unplugged_and_its_like_plugged_in(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Link] = []

    def where(link: Link) -> Endpoint:
        asked.append(link)
        return endpoint(vm.path)

    monkeypatch.setattr(vm, "endpoint", where)
    port = msgspec.structs.replace(wish(FaultKind.UNPLUG), link=Link.VIRTIO_SERIAL)
    assert done(port, vm) == After(ended={}, containers=0)
    gone, there = vm.said[1:]
    assert gone == ("device_del", {"id": "virtio-serial-port"})
    assert there == ("device_add", commandline.PORT_DEVICE)
    assert set(asked) == {Link.VSOCK}  # a client may still have the port's only place


def wanting(kind: FaultKind, link: Link) -> Plan:
    """A shim-kill of group idle, or another fault, on `link`."""
    fault = Fault(kind=kind, group="idle" if kind is FaultKind.SHIM_KILL else "")
    return msgspec.structs.replace(wish(kind), fault=fault, link=link)


@pytest.mark.parametrize(
    ("kind", "link", "waited"),
    [
        (FaultKind.SHIM_KILL, Link.VIRTIO_SERIAL, True),  # it was the only one there
        (FaultKind.SHIM_KILL, Link.VSOCK, False),
        (FaultKind.UNPLUG, Link.VIRTIO_SERIAL, True),
        (FaultKind.PAUSE, Link.VSOCK, False),
    ],
)
def test_containers_are_counted_when_they_should_be_gone(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, kind: FaultKind, link: Link, waited: bool
) -> None:
    monkeypatch.setattr(faults, "_ANSWERS", 1.0)
    with AgentClient(connect(endpoint(vm.path))) as client:
        client.start(["sleep", "1000"])
        assert done(wanting(kind, link), vm) == After(ended={}, containers=1)  # all the patience was in vain
        later = threading.Timer(0.5, client.close)
        later.start()
        after = done(wanting(kind, link), vm)
        later.join()
    assert after == After(ended={}, containers=0 if waited else 1)


@pytest.mark.parametrize(
    ("kind", "link", "ending"),
    [
        (FaultKind.SHIM_KILL, Link.VSOCK, {"idle/0"}),
        (FaultKind.SHIM_KILL, Link.SERIAL_PROXY, {"idle/0"}),
        (FaultKind.SHIM_KILL, Link.VIRTIO_SERIAL, set()),  # a port has no connection that could end
        (FaultKind.RESTORE, Link.VIRTIO_SERIAL, set()),
        (FaultKind.UNPLUG, Link.VIRTIO_SERIAL, {"idle/0"}),
        (FaultKind.PAUSE, Link.VSOCK, set()),
    ],
)
def test_whose_end_the_guest_is_to_hear_of(
    monkeypatch: pytest.MonkeyPatch, kind: FaultKind, link: Link, ending: set[str]
) -> None:
    monkeypatch.setattr(faults, "_ENDS_IN_GUEST", ENDS_IN_GUEST)
    what = wanting(kind, link)
    assert what.fault
    assert faults._ending(what, what.fault) == ending


def test_the_proxy_is_killed_and_nobody_blamed(vm: FakeVm) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    allowed: list[bool] = []

    async def ended() -> None:
        await asyncio.to_thread(process.wait)

    proxy = SimpleNamespace(pid=process.pid, ended=ended, allow_end=lambda: allowed.append(True))
    done(wish(FaultKind.PROXY_KILL), vm, proxy)
    assert (process.returncode, allowed) == (-signal.SIGKILL, [True])


def in_guest(vm: FakeVm, kind: FaultKind, told: Path) -> Iterator[str]:
    """What the command in the guest has written before the fault, after it, and after it is undone."""
    pod: Any = SimpleNamespace(machine=vm, proxy=None)

    def text() -> str:
        return told.read_text() if told.exists() else ""

    async def all_of_it() -> list[str]:
        found: list[str] = []
        async with PodFault.prepared(wish(kind), pod, 1.0) as fault:
            assert fault is not None
            found.append(text())
            await fault.do(lambda: None)
            until(lambda: text().count("\n") == 1, Deadline(20), "the first line")
            await fault.undo()
            if kind is FaultKind.UNBIND:
                until(lambda: text().count("\n") == 2, Deadline(20), "the second line")
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


def test_the_agent_is_asked_until_it_knows_of_the_end(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_ENDS_IN_GUEST", frozenset([FaultKind.SHIM_KILL]))
    shim = msgspec.structs.replace(
        wish(FaultKind.SHIM_KILL), fault=Fault(kind=FaultKind.SHIM_KILL, group="idle")
    )
    with connect(endpoint(vm.path)) as sock:
        sock.sendall(encode(Frame(Kind.HELLO, 5, b'{"label":"idle/0"}')))
        assert sock.recv(65536)
        later = threading.Timer(0.5, sock.shutdown, [socket.SHUT_RDWR])
        later.start()
        assert done(shim, vm) == After(ended={"idle/0": "eof"}, containers=0)
        later.join()


def test_no_fault_is_none() -> None:
    pod: Any = None

    async def none() -> None:
        async with PodFault.prepared(plan(group("a", MeetFault(doing=While.IDLE))), pod, 1.0) as fault:
            assert fault is None

    asyncio.run(none())


def test_its_own_words_go_by_another_link() -> None:
    assert all(control_link(link) is not link for link in Link)
    with serial_like_agent() as path:
        vm = FakeVm(path)
        assert done(wish(FaultKind.SHIM_KILL), vm) == After(ended={}, containers=0)


def test_the_port_that_an_armed_command_holds_is_free_for_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A serial port has one client: who asks while another is there waits for ever."""
    monkeypatch.setitem(faults.IN_GUEST, FaultKind.UNBIND, "read line; read line")
    monkeypatch.setattr(PodFault, "_answering", lambda self, endpoint, patience: None)
    with serial_like_agent() as path:
        assert done(wish(FaultKind.UNBIND), FakeVm(path)) == After(ended={}, containers=0)


def test_a_restored_copy_goes_on_with_the_memory_that_was_left(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, memory, lease = tmp_path / "state", object(), object()
    state.touch()

    async def save(monitor: object, to: Path, deadline: object) -> None:
        vm.said.append(("save", to))

    @contextlib.asynccontextmanager
    async def start(*_: object, **how: Any) -> AsyncIterator[FakeVm]:
        vm.said.append(("start", how["ram"], how["incoming"], how["lease"]))
        yield vm

    monkeypatch.setattr("harness.vm.template.save", save)
    monkeypatch.setattr(faults, "Machine", SimpleNamespace(start=start))
    monkeypatch.setattr(faults, "CidLease", SimpleNamespace(claim=lambda: contextlib.nullcontext(lease)))
    pod: Any = SimpleNamespace(machine=vm, proxy=None, memory=memory)
    folder: Any = SimpleNamespace(path=tmp_path)
    place: Any = SimpleNamespace(qemu=None, folder=folder, pod=lambda *_: None)
    copy = msgspec.structs.replace(faults.copying(place, pod, tmp_path), state=state)

    async def all_of_it() -> None:
        async with PodFault.prepared(wish(FaultKind.RESTORE), pod, 1.0, copy) as fault:
            assert fault is not None
            await fault.do(lambda: None)
            await fault.undo()

    asyncio.run(all_of_it())
    assert vm.said == ["may end", ("save", state), "quit", ("start", memory, state, lease)]
    assert not state.exists()
