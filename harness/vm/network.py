"""The one forwarded port of a machine with a user-mode network."""

from __future__ import annotations

import re

from harness.model.errors import InfrastructureError
from harness.vm.monitor import Monitor

_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b")


async def ssh_port(monitor: Monitor) -> int:
    """The port on 127.0.0.1 that leads to the guest's port 22, held by QEMU since its start.

    :raise InfrastructureError: the machine has no such forward.
    """
    # QEMU has no QMP command for this but an unstable one; the human one is as old as the feature.
    text = await monitor.execute("human-monitor-command", {"command-line": "info usernet"})
    found = _FORWARD.search(text)
    if found is None:
        raise InfrastructureError("QEMU forwards no port to the guest's port 22", detail=text)
    return int(found.group(1))
