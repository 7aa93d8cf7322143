"""Whether the guest's driver has started a device whose other half is a process (vhost-user)."""

from __future__ import annotations

import asyncio

from harness.model.deadline import Deadline, until
from harness.vm.monitor import CommandFailed, Monitor

_STATUS = "x-query-virtio-status"
"""Since QEMU 7.2, and not a stable command; QEMU has no event for this."""


async def driver_started(monitor: Monitor, device: str, deadline: Deadline) -> None:
    """Return when the guest's driver has started `device`, and QEMU has told its process of all queues.

    A QEMU that can't tell is not waited for.

    :param device: its id.
    :raise DeadlinePassed: it does not start it in time.
    """
    loop = asyncio.get_running_loop()
    path = {"path": f"/machine/peripheral/{device}/virtio-backend"}

    def started() -> bool:
        asked = asyncio.run_coroutine_threadsafe(monitor.execute(_STATUS, path), loop)
        try:
            return bool(asked.result()["vhost-started"])
        except CommandFailed as error:
            if error.error_class == "CommandNotFound":
                return True
            raise

    await asyncio.to_thread(until, started, deadline, f"the guest's starting of {device}")
