"""Following the console, and finding a crash in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, GuestCrashed
from harness.vm.console import QUOTED_LINES, Console
from tests.unit.hangs import HANGS

CRASHES = [
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000",
    "Oops: int3: 0000 [#1] PREEMPT SMP NOPTI",
    "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
    "general protection fault, probably for non-canonical address 0x6b6b: 0000 [#1] SMP",
    "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "BUG: unable to handle page fault for address: ffffc90000ffe000",
    "BUG: KASAN: slab-use-after-free in vsock_release+0x12/0x40",
    "kernel BUG at net/vmw_vsock/virtio_transport.c:123!",
    "WARNING: CPU: 0 PID: 1 at net/vmw_vsock/af_vsock.c:444 vsock_assign_transport+0x1/0x2",
    "WARNING: net/vmw_vsock/af_vsock.c:444 at vsock_assign_transport+0x1/0x2, CPU#0: python3/77",
    "WARNING: possible circular locking dependency detected",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "INFO: task python3:77 blocked for more than 120 seconds.",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:77]",
    "watchdog: Watchdog detected hard LOCKUP on cpu 0",
    "Out of memory: Killed process 77 (python3) total-vm:100kB",
    "UBSAN: array-index-out-of-bounds in drivers/char/virtio_console.c:12:3",
    "PANIC: double fault, error_code: 0x0",
]
HARMLESS = [
    "clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable",
    "amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled",
    "traps: python3[77] general protection fault ip:55 sp:7f error:0 in python3.13",
    "python3[77]: segfault at 0 ip 0000 sp 0000 error 4",
    "WARNING: pip is being run by root",
    "agent said Kernel panic - not syncing",
    "rcu: Hierarchical SRCU implementation.",
    "x86/fpu: Supporting XSAVE feature 0x001",
    "DEBUG: Oops: not at the line's beginning",
]


def console(tmp_path: Path, text: str) -> Console:
    path = tmp_path / "console.log"
    path.write_text(text)
    return Console(path)


@pytest.mark.parametrize("line", CRASHES)
@pytest.mark.parametrize("stamp", ["[    3.090887] ", "[ 1133.090887][    T1] ", ""])
def test_crash_is_seen(tmp_path: Path, stamp: str, line: str) -> None:
    seen = console(tmp_path, f"[    1.0] fine\r\n{stamp}{line}\r\n{stamp}Call Trace:\r\n")
    assert seen.crash() == f"{stamp}{line}\n{stamp}Call Trace:"
    with pytest.raises(GuestCrashed) as raised:
        seen.check()
    assert line in raised.value.summary
    assert "Call Trace" in raised.value.detail


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_is_no_crash(tmp_path: Path, line: str) -> None:
    seen = console(tmp_path, f"[    1.000000] {line}\n{line}\n")
    assert seen.crash() is None
    seen.check()


def test_quote_starts_at_the_cut_and_ends_with_the_trace(tmp_path: Path) -> None:
    report = (
        "[1.0] ------------[ cut here ]------------\n"
        "[1.0] WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n"
        "[1.0] Call Trace:\n"
        "[1.0] ---[ end trace 0000000000000000 ]---"
    )
    assert console(tmp_path, f"before\n{report}\nafter\n").crash() == report


def test_quote_is_limited_and_of_the_first_crash(tmp_path: Path) -> None:
    lines = ["[1.0] Oops: 0002 [#1] SMP", *[f"[1.0] line {n}" for n in range(100)], "[2.0] BUG: second"]
    quote = console(tmp_path, "\n".join(lines)).crash()
    assert quote is not None
    assert quote.splitlines() == lines[:QUOTED_LINES]


def test_only_new_text_is_read_and_a_growing_report_is_quoted_as_far_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    seen = Console(path)
    assert seen.crash() is None  # no file yet
    with path.open("wb", buffering=0) as file:
        file.write(b"[1.0] Kernel pan")
        assert seen.crash() is None
        file.write(b"ic - not syncing: x\n[1.0] CPU: 0 \xc3")
        assert seen.crash() == "[1.0] Kernel panic - not syncing: x\n[1.0] CPU: 0 "
        file.write(b"\xa4\n")
        assert seen.crash() == "[1.0] Kernel panic - not syncing: x\n[1.0] CPU: 0 ä"
    assert seen.tail(1) == ""
    assert seen.tail(2) == "[1.0] CPU: 0 ä"


def test_wait_for_returns_the_line(tmp_path: Path) -> None:
    path = tmp_path / "console.log"

    async def scenario() -> str:
        waiting = asyncio.create_task(Console(path).wait_for("agent: up", Deadline(HANGS)))
        with path.open("w") as file:
            for part in ("[1.0] boot\nage", "nt: up a", "t 3.9\n"):
                await asyncio.sleep(0)
                file.write(part)
                file.flush()
        return await waiting

    assert asyncio.run(scenario()).startswith("agent: up")


def test_wait_for_ends_with_the_crash_not_with_the_deadline(tmp_path: Path) -> None:
    seen = console(tmp_path, "[1.0] Kernel panic - not syncing: VFS\n")
    with pytest.raises(GuestCrashed, match="VFS"):
        asyncio.run(seen.wait_for("agent: up", Deadline(HANGS)))


def test_wait_for_says_what_was_there_instead(tmp_path: Path) -> None:
    seen = console(tmp_path, "[1.0] waiting for root device\n")
    with pytest.raises(DeadlinePassed, match=r"(?s)'agent: up' on the console.*waiting for root"):
        asyncio.run(seen.wait_for("agent: up", Deadline(0.01)))
