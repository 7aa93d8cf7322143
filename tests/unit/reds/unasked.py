"""Rows of `tests.unit.reds`: who met a fault reads what is not its own, or sees something too early."""

from __future__ import annotations

from harness.model.trace import What
from tests.unit.systems import Red, met_as, spoiled

UNASKED: list[Red] = [
    *(
        (scenario, link, spoiled(client), f"{client} read wrong data in step ")
        for scenario, link, client in (
            ("reliability-paused", "vsock", "sending/0"),
            ("reliability-paused", "vsock", "receiving/1"),
            ("reliability-proxied-paused", "serial-proxy", "sending/2"),
            ("reliability-proxied-paused", "serial-proxy", "receiving/0"),
            ("reliability-serial-paused", "virtio-serial", "shim/0"),
        )
    ),
    *(
        (scenario, link, spoiled(client, What.STALE), f"{client} read a reply to a request it never made")
        for scenario, link, client in (
            ("reliability-paused", "vsock", "beside/0"),
            ("reliability-paused", "hybrid-vsock", "beside/0"),
            ("reliability-shim-killed", "vsock", "idle/0"),
            ("reliability-shim-killed", "serial-proxy", "idle/0"),
            ("reliability-serial-paused", "virtio-serial", "beside/0"),
        )
    ),
    *(
        (
            "reliability-restored",
            "vsock",
            met_as(client, sees=f"{errno} early"),
            f"is {errno} early, expected",
        )
        for client, errno in (
            ("idle/0", "ECONNRESET"),
            ("sending/1", "ECONNRESET"),
            ("sending/0", "EHOSTUNREACH"),
            ("connecting/0", "ENODEV"),
        )
    ),
]
