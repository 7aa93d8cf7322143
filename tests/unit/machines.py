"""Machines whose QEMU is a fake process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.model.spec import MachineSpec, Qemu, Vsock
from harness.vm.machine import Machine
from harness.vm.monitor import MonitorClosed
from tests.unit.hangs import HANGS

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
                spec, qemu, self.folder, log_folder=self.logs, deadline=Deadline(HANGS), lease=lease
            ) as machine:
                return await scenario(machine)

        return asyncio.run(run())

    def log(self, name: str) -> str:
        return (self.logs / name).read_text()


async def nothing(machine: Machine) -> None:
    machine.check()


async def dies_of(machine: Machine, command: str, **arguments: object) -> None:
    with contextlib.suppress(MonitorClosed):
        await machine.monitor.execute(command, arguments)


def is_dev_null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == Path(os.devnull).stat().st_rdev
