"""The machine around a fake QEMU process: its start, its ends, and what is said about them."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.errors import (
    DeadlinePassed,
    GuestCrashed,
    HarnessError,
    InfrastructureError,
    SystemFailure,
)
from harness.model.spec import Qemu
from harness.vm.ending import Cause, QemuDied, of_exit, of_status
from harness.vm.launch import QemuDidNotStart
from harness.vm.machine import Machine, QemuKilled
from tests.unit.hangs import HANGS
from tests.unit.machines import FAKE, SPEC, STEP, Starter, dies_of, nothing
from tests.unit.processes import reaped


def test_start_and_quit_in_order(start: Starter) -> None:
    async def scenario(machine: Machine) -> int:
        assert not reaped(machine.pid)
        return machine.pid

    assert reaped(start(scenario))
    assert "host-qmp-quit" in start.log("qmp.jsonl")
    lines = start.log("qemu.cmdline").split(" \\\n")
    assert lines[:2] == [sys.executable, str(FAKE)]
    assert "'earlyprintk=ttyS0,115200 console=ttyS0 loglevel=5 panic=-1 tsc=unstable'" in lines


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
    assert [reaped(pid) for pid in pids] == [True]


def test_missing_program(folder: RunFolder, tmp_path: Path) -> None:
    async def run() -> None:
        qemu = Qemu(argv=("/no/such/qemu",))
        async with Machine.start(SPEC, qemu, folder, log_folder=tmp_path, deadline=Deadline(HANGS)):
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
            await machine.quit(10 * STEP)  # what obeys may take its time on a busy machine
        return machine.pid

    assert reaped(start(scenario, behaviour))


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
    assert reaped(pids[0])


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
        assert reaped(machine.pid)
        end = await machine.died
        machine.check()
        return end.cause, end.returncode

    assert start(scenario) == (Cause.SIGNALLED, -signal.SIGKILL)


def test_a_wait_on_the_end_can_be_given_up(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(machine.died, 0.01)
        with pytest.raises(DeadlinePassed):
            await machine.console.wait_for("agent: up", Deadline(0.01))

    start(scenario)


def test_what_is_waited_for_on_the_console_does_not_come_from_a_dead_one(start: Starter) -> None:
    async def scenario(machine: Machine) -> None:
        await dies_of(machine, "x-segfault")
        await machine.console.wait_for("agent: up", Deadline(HANGS), machine.check)

    with pytest.raises(QemuDied, match="killed by SIGSEGV"):
        start(scenario)


@pytest.mark.parametrize("status", ["running", "paused", "suspended", "postmigrate", "shutdown"])
def test_other_statuses_are_no_end(status: str) -> None:
    assert of_status(status) is None


def test_the_guests_word_counts_more_than_the_exit_code() -> None:
    assert of_exit(0, "guest-panic", "").cause is Cause.GUEST_PANICKED
    assert of_exit(-9, None, "").text == "QEMU was killed by SIGKILL"
