"""Rows of `tests.unit.reds`: of what dies behind a serial port that has one client."""

from __future__ import annotations

from tests.unit.systems import Red, hit, inheriting, late, met_as, served_next

_ON_A_PORT = {
    "qemu-killed": ({"sees": "nothing"}, "is nothing, expected "),
    "qemu-quit": ({"reconnect": "ECONNREFUSED"}, "is ECONNREFUSED, expected ENOENT"),
    "agent-killed": ({"sees": "eof"}, "is eof, expected nothing"),
    "guest-panic": ({"then": "served"}, "is served, expected silent"),
    "guest-reset": ({"sees": "eof"}, "is eof, expected nothing"),
    "paused": ({"then": "gone"}, "is gone, expected served"),
    "restored": ({"sees": "nothing"}, "is nothing, expected "),
}
"""How a port's one client may be met otherwise than is expected of each death, and what is said of that."""

BEHIND_A_PORT: list[Red] = [
    *(
        (f"reliability-serial-{death}", link, met_as("shim/0", **facts), f" of shim/0 {says}")
        for death, (facts, says) in _ON_A_PORT.items()
        for link in ("virtio-serial", "virtconsole", "isa-serial")
        if (death, link) != ("guest-reset", "isa-serial")
    ),
    *(
        (
            f"reliability-serial-{death}-{doing}",
            "virtio-serial",
            met_as("shim/0", **facts),
            f" of shim/0 {says}",
        )
        for death, facts, says in (
            ("qemu-killed", {"sees": "nothing"}, "is nothing, expected "),
            ("unplugged", {"guest": "nothing"}, "is nothing, expected ENODEV"),
            ("restored", {"containers": "1 running"}, "is 1 running, expected gone"),
        )
        for doing in ("sending", "receiving")
    ),
    *(
        (
            f"reliability-serial-{death}",
            link,
            met_as("shim/0", containers=wrong),
            f"is {wrong}, expected {left}",
        )
        for death, link, wrong, left in (
            ("paused", "virtio-serial", "gone", "1 running"),
            ("restored", "virtio-serial", "1 running", "gone"),
            ("restored", "virtconsole", "gone", "1 running"),
            ("restored", "isa-serial", "gone", "1 running"),
        )
    ),
    *(
        (
            f"reliability-serial-shim-killed{doing}",
            link,
            met_as("victim/0", containers=wrong),
            f"containers of victim/0 is {wrong}, expected {left}",
        )
        for doing, link, wrong, left in (
            ("", "virtio-serial", "1 running", "gone"),
            ("", "virtconsole", "gone", "1 running"),
            ("", "isa-serial", "gone", "1 running"),
            ("-sending", "virtio-serial", "1 running", "gone"),
            ("-receiving", "virtio-serial", "1 running", "gone"),
        )
    ),
    ("reliability-serial-shim-killed", "virtio-serial", inheriting, "expected 0 containers running, seen 1"),
    (
        "reliability-serial-shim-killed-receiving",
        "virtio-serial",
        served_next,
        "next: served 1 of 1, expected 0",
    ),
    *(
        (
            f"reliability-serial-{death}",
            link,
            late("shim/0", end, 3.0),
            "shim/0 noticed after 3 s, expected within",
        )
        for death, link, end in (
            ("qemu-killed", "virtio-serial", "host"),
            ("qemu-quit", "virtconsole", "host"),
            ("restored", "isa-serial", "host"),
            ("unplugged-sending", "virtio-serial", "guest"),
        )
    ),
    ("reliability-serial-unplugged", "virtio-serial", hit(then="silent"), "is silent, expected served"),
    (
        "reliability-serial-shim-killed",
        "virtio-serial",
        late("victim/0", "containers", 5),
        "the containers of victim/0 were gone after 5 s, expected within",
    ),
]
