"""The machine around a fake QEMU process: its start, its ends, and what is said about them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.errors import (
    DeadlinePassed,
    GuestCrashed,
    HarnessError,
    InfrastructureError,
    SystemFailure,
    UsageError,
)
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.model.spec import MachineSpec, Qemu, Vsock
from harness.vm.commandline import VhostUser, Wiring, build
from harness.vm.ending import Cause, QemuDied, of_exit, of_status
from harness.vm.launch import QemuDidNotStart
from harness.vm.machine import Machine, QemuKilled
from harness.vm.monitor import CommandFailed, MonitorClosed
from harness.vm.ports import plug_port, wire_spare_port

FAKE = Path(__file__).with_name("fake_qemu.py")
SPEC = MachineSpec(kernel=Path("vmlinux"), initrd=Path("initrd"))
HOTPLUG = msgspec.structs.replace(SPEC, vsock=Vsock.HOTPLUG, links=frozenset({Link.VSOCK}))
STEP = 0.3


class FakeLease:
    """A pipe's writing end instead of ``/dev/vhost-vsock``: its last close is an EOF at `reader`."""

    def __init__(self, cid: int = 4711) -> None:
        self.cid = cid
        self.reader, self.fd = os.pipe()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.fd)


@pytest.fixture
def lease() -> Iterator[FakeLease]:
    with contextlib.closing(FakeLease()) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path_factory.mktemp("run")) as made:
        yield made


Scenario = Callable[[Machine], Awaitable[Any]]


class Starter:
    """Runs a scenario in a machine whose QEMU is the fake."""

    def __init__(self, folder: RunFolder, logs: Path) -> None:
        self.folder = folder
        self.logs = logs

    def __call__(
        self,
        scenario: Scenario,
        behaviour: str = "",
        spec: MachineSpec = SPEC,
        lease: FakeLease | None = None,
    ) -> Any:
        qemu = Qemu(argv=(sys.executable, str(FAKE)), env={"FAKE_QEMU": behaviour})

        async def run() -> Any:
            async with Machine.start(
                spec, qemu, self.folder, log_folder=self.logs, deadline=Deadline(5), lease=lease
            ) as machine:
                return await scenario(machine)

        return asyncio.run(run())

    def log(self, name: str) -> str:
        return (self.logs / name).read_text()


@pytest.fixture
def start(folder: RunFolder, tmp_path: Path) -> Starter:
    return Starter(folder, tmp_path / "deep" / "logs")


async def nothing(machine: Machine) -> None:
    machine.check()


async def dies_of(machine: Machine, command: str, **arguments: object) -> None:
    with contextlib.suppress(MonitorClosed):
        await machine.monitor.execute(command, arguments)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_dev_null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == Path(os.devnull).stat().st_rdev


def test_start_and_quit_in_order(start: Starter) -> None:
    async def scenario(machine: Machine) -> int:
        assert not gone(machine.pid)
        return machine.pid

    assert gone(start(scenario))
    assert "host-qmp-quit" in start.log("qmp.jsonl")
    lines = start.log("qemu.cmdline").split(" \\\n")
    assert lines[:2] == [sys.executable, str(FAKE)]
    assert "'earlyprintk=ttyS0,115200 console=ttyS0 loglevel=5 panic=-1'" in lines


def test_qemu_that_exits_at_once_is_explained(start: Starter) -> None:
    with pytest.raises(QemuDidNotStart) as raised:
        start(nothing, "exits-at-once")
    assert "exited with code 1 before the machine ran" in raised.value.summary
    assert "Could not access KVM kernel module" in raised.value.detail
    assert "-kernel \\\nvmlinux" in raised.value.detail


def test_qemu_that_greets_and_then_fails_on_a_device_has_not_started(start: Starter) -> None:
    with pytest.raises(QemuDidNotStart, match=r"(?s)exited with code 1.*Address already in use"):
        start(nothing, "bad-device")


def test_silent_qemu_has_not_started_and_is_gone(start: Starter, folder: RunFolder) -> None:
    pids: list[int] = []

    async def run() -> None:
        qemu = Qemu(argv=(sys.executable, str(FAKE)), env={"FAKE_QEMU": "silent"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folder, "own", pids.append)
            async with Machine.start(SPEC, qemu, folder, log_folder=start.logs, deadline=Deadline(STEP)):
                pytest.fail("started")

    with pytest.raises(QemuDidNotStart, match="was silent on its monitor"):
        asyncio.run(run())
    assert [gone(pid) for pid in pids] == [True]


def test_missing_program(folder: RunFolder, tmp_path: Path) -> None:
    async def run() -> None:
        qemu = Qemu(argv=("/no/such/qemu",))
        async with Machine.start(SPEC, qemu, folder, log_folder=tmp_path, deadline=Deadline(5)):
            pytest.fail("started")

    with pytest.raises(InfrastructureError, match="/no/such/qemu"):
        asyncio.run(run())


@pytest.mark.parametrize("behaviour", ["deaf", "deaf obeys-sigterm"])
def test_quit_then_terminate_then_kill(start: Starter, behaviour: str) -> None:
    async def scenario(machine: Machine) -> int:
        if behaviour == "deaf":
            with pytest.raises(QemuKilled, match="obeyed neither quit nor SIGTERM") as raised:
                await machine.quit(STEP)
            assert isinstance(raised.value, SystemFailure)
        else:
            await machine.quit(STEP)
        return machine.pid

    assert gone(start(scenario, behaviour))


def test_a_kill_on_leaving_is_raised(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine.quit, "__defaults__", (STEP,))
    with pytest.raises(QemuKilled):
        start(nothing, "deaf")


def test_a_kill_on_leaving_by_an_error_is_a_note_on_it(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine.quit, "__defaults__", (STEP,))

    async def scenario(machine: Machine) -> None:
        raise LookupError("the scenario's own error")

    with pytest.raises(LookupError) as raised:
        start(scenario, "deaf")
    assert "SIGKILL" in raised.value.__notes__[0]


def test_a_crash_on_quit_is_raised(start: Starter) -> None:
    with pytest.raises(QemuDied, match=r"did not end in order.*-11"):
        start(nothing, "crash-on-quit")


def test_cancelling_leaves_no_process(start: Starter) -> None:
    pids: list[int] = []

    async def scenario(machine: Machine) -> None:
        pids.append(machine.pid)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await machine.died

    with pytest.raises(asyncio.CancelledError):
        start(scenario)
    assert gone(pids[0])


DEATHS: list[tuple[str, dict[str, object], Cause, type[HarnessError], str]] = [
    ("x-exit", {"words": 0}, Cause.EXITED, QemuDied, "exited with code 0 without saying why"),
    ("x-exit", {"words": "a last word"}, Cause.EXITED, QemuDied, "a last word"),
    ("x-exit", {"words": "KVM internal error"}, Cause.INTERNAL_ERROR, QemuDied, "KVM gave up"),
    ("x-segfault", {}, Cause.SIGNALLED, QemuDied, "killed by SIGSEGV"),
    ("x-guest-ends", {"reason": "guest-reset"}, Cause.GUEST_RESET, SystemFailure, "triple-faulted"),
    ("x-guest-ends", {"reason": "guest-shutdown"}, Cause.GUEST_SHUTDOWN, SystemFailure, "reboot: Power down"),
    ("x-guest-ends", {"reason": "host-signal"}, Cause.HOST, QemuDied, "told to end (host-signal)"),
    ("x-guest-panics", {}, Cause.GUEST_PANICKED, GuestCrashed, "Kernel panic - not syncing: test"),
    ("x-stop", {"status": "internal-error"}, Cause.INTERNAL_ERROR, QemuDied, "Suberror: 3"),
]


@pytest.mark.parametrize(("command", "arguments", "cause", "error", "text"), DEATHS)
def test_an_unasked_end_is_noticed_and_told_apart(
    start: Starter,
    command: str,
    arguments: dict[str, object],
    cause: Cause,
    error: type[HarnessError],
    text: str,
) -> None:
    seen: list[Cause] = []

    async def scenario(machine: Machine) -> None:
        await dies_of(machine, command, **arguments)
        seen.append((await asyncio.wait_for(machine.died, 5)).cause)
        with pytest.raises(error):
            machine.check()

    with pytest.raises(error) as raised:
        start(scenario)
    assert type(raised.value) is error
    assert seen == [cause]
    assert text in str(raised.value)


def test_an_end_that_nobody_looked_at_is_raised_on_leaving(start: Starter) -> None:
    with pytest.raises(QemuDied, match="exited with code 0"):
        start(lambda machine: dies_of(machine, "x-exit", words=0))


def test_a_clients_error_is_explained_by_the_machines_end(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        await dies_of(machine, "x-segfault")
        raise ConnectionResetError("client 3")

    with pytest.raises(ConnectionResetError) as raised:
        start(scenario)
    assert "killed by SIGSEGV" in raised.value.__notes__[0]


def test_a_warning_on_the_console_is_raised_on_leaving(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        machine.console.path.write_text("[ 1.000000] WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n")

    with pytest.raises(GuestCrashed, match=r"at a\.c:1"):
        start(scenario)


def test_an_expected_end_and_a_pause_are_no_failures(start: Starter) -> None:
    async def ends(machine: Machine) -> Cause:
        machine.allow_end()
        await dies_of(machine, "x-guest-ends", reason="guest-shutdown")
        end = await machine.died
        machine.check()
        return end.cause

    assert start(ends) is Cause.GUEST_SHUTDOWN

    async def pauses(machine: Machine) -> None:
        await machine.monitor.execute("x-stop", {"status": "paused"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.died, 0.1)
        machine.check()

    start(pauses)


def test_kill_as_a_fault(start: Starter) -> None:
    async def scenario(machine: Machine) -> tuple[Cause, int | None]:
        await machine.kill()
        assert gone(machine.pid)
        end = await machine.died
        machine.check()
        return end.cause, end.returncode

    assert start(scenario) == (Cause.SIGNALLED, -signal.SIGKILL)


def test_links_listen_before_qemu_asks_and_stop_with_it(start: Starter) -> None:
    serial = frozenset({Link.VIRTIO_SERIAL, Link.VIRTCONSOLE, Link.ISA_SERIAL})

    async def scenario(machine: Machine) -> set[str]:
        paths = {machine.endpoint(link).path or "" for link in serial}
        for path in paths:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        with pytest.raises(
            UsageError, match="has no link vsock; it has: isa-serial, virtconsole, virtio-serial"
        ):
            machine.endpoint(Link.VSOCK)
        return paths

    paths = start(scenario, spec=msgspec.structs.replace(SPEC, links=serial))
    assert len(paths) == 3
    for path in paths:
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
            client.connect(path)


def test_two_machines_in_one_run_folder(start: Starter, tmp_path: Path) -> None:
    spec = msgspec.structs.replace(SPEC, links=frozenset({Link.ISA_SERIAL}))
    qemu = Qemu(argv=(sys.executable, str(FAKE)))

    async def scenario(first: Machine) -> None:
        async with Machine.start(
            spec, qemu, start.folder, log_folder=tmp_path / "second", deadline=Deadline(5)
        ) as second:
            assert first.endpoint(Link.ISA_SERIAL) != second.endpoint(Link.ISA_SERIAL)

    start(scenario, spec=spec)


def test_a_cold_lease_is_qemus_alone(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> Endpoint:
        os.set_blocking(lease.reader, False)
        with pytest.raises(BlockingIOError):
            os.read(lease.reader, 1)  # QEMU holds it
        await machine.quit()
        assert os.read(lease.reader, 1) == b""  # and nobody else did
        return machine.endpoint(Link.VSOCK)

    spec = msgspec.structs.replace(HOTPLUG, vsock=Vsock.COLD)
    assert start(scenario, spec=spec, lease=lease) == Endpoint(link=Link.VSOCK, cid=4711, port=AGENT_PORT)
    assert f"vhost-vsock-pci,id=vsock0,guest-cid=4711,vhostfd={lease.fd}" in start.log("qemu.cmdline")


def test_plug_and_unplug(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease)
        assert machine.endpoint(Link.VSOCK).cid == 4711
        assert os.read(lease.reader, 100) == b"QEMU has it"
        assert is_dev_null(lease.fd)  # our copy is closed
        with pytest.raises(UsageError, match="no free port"):
            await machine.plug_vsock(lease)
        await machine.unplug_vsock(Deadline(5))
        with pytest.raises(UsageError, match="has no link vsock"):
            machine.endpoint(Link.VSOCK)

    start(scenario, spec=HOTPLUG)
    assert '"driver": "vhost-vsock-pci"' in start.log("console.log")


def test_a_device_without_seqpacket(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease, seqpacket=False)

    start(scenario, spec=HOTPLUG)
    assert '"seqpacket": "off"' in start.log("console.log")


@pytest.mark.parametrize(("behaviour", "asked"), [("", 6), ("old", 2)])
def test_a_device_that_is_a_process_is_plugged_in_by_its_socket(
    start: Starter, folder: RunFolder, behaviour: str, asked: int
) -> None:
    process = VhostUser(socket=folder.socket(f"vhost{asked}"), uds=folder.socket("hybrid"))

    async def scenario(machine: Machine) -> None:
        for _ in range(2):  # nothing of the first is left that were in the way
            await machine.plug_vsock(process)
            wanted = Endpoint(link=Link.HYBRID_VSOCK, path=str(process.uds), port=AGENT_PORT)
            assert machine.endpoint(Link.HYBRID_VSOCK) == wanted
            with pytest.raises(UsageError, match="has no link vsock"):
                machine.endpoint(Link.VSOCK)
            await machine.unplug_vsock(Deadline(5))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(process.socket))
        listener.listen()
        start(scenario, behaviour, spec=HOTPLUG)
    assert '"driver": "vhost-user-vsock-pci"' in start.log("console.log")
    # until the driver has started it; a QEMU that can't tell is asked once
    assert start.log("qmp.jsonl").count('"execute": "x-query-virtio-status"') == asked


def test_a_further_port_is_plugged_in_behind_its_socket(start: Starter, tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await plug_port(machine.monitor, "another.agent", tmp_path / "s", Deadline(5))

    start(scenario)
    chardev, device = map(json.loads, start.log("console.log").splitlines()[-2:])
    assert chardev["backend"]["data"] == {
        "addr": {"type": "unix", "data": {"path": str(tmp_path / "s")}},
        "server": True,
        "wait": False,
    }
    assert device["chardev"] == chardev["id"]
    assert (device["name"], device["bus"]) == ("another.agent", "serial-bus.0")
    wiring = Wiring(qmp_fd=3, console=Path("console"), link_fds={Link.VIRTIO_SERIAL: 4})
    links = msgspec.structs.replace(SPEC, links=frozenset({Link.VIRTIO_SERIAL}))
    assert "virtio-serial-pci,id=serial-bus" in build(links, Qemu(), wiring)


def test_a_spare_port_is_wired_to_its_socket(start: Starter, tmp_path: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await wire_spare_port(machine.monitor, tmp_path / "s", Deadline(5))

    start(scenario)
    change = json.loads(start.log("console.log").splitlines()[-1])
    assert change["id"] == "spare"
    assert change["backend"]["data"]["addr"]["data"] == {"path": str(tmp_path / "s")}


def test_refused_plug_leaves_the_lease_alone(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        with contextlib.closing(FakeLease(666)) as lease:
            with pytest.raises(CommandFailed, match="Address already in use"):
                await machine.plug_vsock(lease)
            os.write(lease.fd, b"still ours")
            assert os.read(lease.reader, 100) == b"still ours"
            with pytest.raises(UsageError):
                machine.endpoint(Link.VSOCK)

    start(scenario, spec=HOTPLUG)


def test_guest_that_refuses_to_unplug(start: Starter, lease: FakeLease) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.plug_vsock(lease)
        with pytest.raises(SystemFailure, match="refused to unplug"):
            await machine.unplug_vsock(Deadline(5))

    start(scenario, "refuses-unplug", spec=HOTPLUG)


def test_a_lease_for_a_machine_that_cannot_take_it(start: Starter, lease: FakeLease) -> None:
    with pytest.raises(UsageError, match="not cold"):
        start(nothing, spec=HOTPLUG, lease=lease)


def test_a_wait_on_the_end_can_be_given_up(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(machine.died, 0.01)
        with pytest.raises(DeadlinePassed):
            await machine.console.wait_for("agent: up", Deadline(0.01))

    start(scenario)


@pytest.mark.parametrize("status", ["running", "paused", "suspended", "postmigrate", "shutdown"])
def test_other_statuses_are_no_end(status: str) -> None:
    assert of_status(status) is None


def test_the_guests_word_counts_more_than_the_exit_code() -> None:
    assert of_exit(0, "guest-panic", "").cause is Cause.GUEST_PANICKED
    assert of_exit(-9, None, "").text == "QEMU was killed by SIGKILL"
