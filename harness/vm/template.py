"""Saving a machine once and going on from there many times: device state in a file, memory in another.

The memory stays where it is (migration capability `x-ignore-shared`, QEMU's migration/ram.c): the saved
machine has it mapped shared, each clone copy-on-write, so clones share what they don't change.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.model.deadline import Deadline
from harness.model.errors import InfrastructureError
from harness.vm.commandline import RamFile
from harness.vm.monitor import Events, Monitor

_CAPABILITIES = {
    "capabilities": [
        {"capability": "x-ignore-shared", "state": True},
        {"capability": "events", "state": True},
    ]
}


class NotRestored(InfrastructureError):
    """A saved machine does not load: it does not fit, or is damaged. Making it anew may help."""


def memory(saved: Path) -> RamFile:
    """That of what is in the folder `saved`, as one that goes on from there has it: the file stays as it
    is."""
    path = saved / "ram"
    return RamFile(path=path, share=False, fixed=not os.access(path, os.W_OK))


async def save(monitor: Monitor, state: Path, deadline: Deadline) -> None:
    """Stop the machine and write its device state; it is of no more use afterwards but to be quit.

    :raise InfrastructureError: when it can't be saved.
    """
    await monitor.execute("stop")
    await monitor.execute("migrate-set-capabilities", _CAPABILITIES)
    with monitor.events("MIGRATION") as events:
        await monitor.execute("migrate", {"uri": f"file:{state}"})
        await _completed(monitor, events, f"saving a machine in {state.name}", deadline)


async def restore(monitor: Monitor, state: Path, deadline: Deadline) -> None:
    """Load a device state into a machine that waits for one, and let it run.

    :raise NotRestored: when it does not fit the machine, or is damaged.
    """
    what = f"restoring a machine from {state}"
    try:
        await monitor.execute("migrate-set-capabilities", _CAPABILITIES)
        with monitor.events("MIGRATION") as events:
            # without exit-on-error, the default, QEMU's reason would go to its stderr and it with it
            await monitor.execute("migrate-incoming", {"uri": f"file:{state}", "exit-on-error": False})
            await _completed(monitor, events, what, deadline)
        await monitor.execute("cont")
    except InfrastructureError as error:
        raise NotRestored(f"{what}: {error.summary}", detail=error.detail) from error


async def _completed(monitor: Monitor, events: Events, what: str, deadline: Deadline) -> None:
    while (status := (await events.get(deadline))["data"]["status"]) != "completed":
        if status in ("failed", "cancelled"):
            reason = (await monitor.execute("query-migrate")).get("error-desc", "QEMU gives no reason")
            raise InfrastructureError(f"{what}: {status}: {reason}")
