"""Rows of `tests.unit.reds`: of half-closed connections, and of what dies behind vsock or a proxy."""

from __future__ import annotations

from tests.unit import traces
from tests.unit.systems import Red, heard, hit, late, met_as, seeing, surviving, untold

DEATHS: list[Red] = [
    ("reliability-half-close", "vsock", traces.unanswered, "seen its end after 0"),
    *(
        (
            "reliability-half-close",
            link,
            seeing(client, 0, expected, seen),
            f"{client} read wrong data in step 1 (shutdown): expected {expected}, seen {seen}",
        )
        for client in ("dialling/0", "dialled/0")
        for link, expected, seen in (
            ("vsock", "b39d", "b39c"),
            ("vsock", "own-write EPIPE", "written"),
            ("vsock", "a stream connection", "ETIMEDOUT"),
            ("vsock", "agents-write EPIPE", "written"),
            ("hybrid-vsock", "b39d", "b39c"),
            ("hybrid-vsock", "own-write EPIPE", "written"),
            ("hybrid-vsock", "a stream connection", "ECONNRESET"),
            ("hybrid-vsock", "an answer of 0 bytes", "its end after 65536"),
            ("hybrid-vsock", "agents-write written", "EPIPE"),
        )
    ),
    ("reliability-qemu-killed", "hybrid-vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected eof"),
    ("reliability-qemu-quit", "hybrid-vsock", hit(reconnect="ENODEV"), "reconnect of idle/0 is ENODEV"),
    ("reliability-guest-panic", "hybrid-vsock", hit(sees="eof"), "sees of idle/0 is eof, expected nothing"),
    ("reliability-paused", "hybrid-vsock", hit(then="served"), "then of idle/0 is served, expected silent"),
    ("reliability-agent-killed", "hybrid-vsock", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-qemu-killed", "vsock", hit(sees="nothing"), "idle/0 is nothing, expected ECONNRESET"),
    ("reliability-qemu-quit", "vsock", hit(sees="eof"), "idle/0 is eof, expected ECONNRESET"),
    ("reliability-guest-panic", "vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected nothing"),
    ("reliability-guest-reset", "vsock", hit(then="served"), "then of idle/0 is served, expected EPIPE"),
    *(
        (f"reliability-{what}", "vsock", met_as("sending/0", then="EPIPE"), "is EPIPE, expected silent")
        for what in ("guest-reset", "unbound")
    ),
    *(
        ("reliability-shim-killed", link, met_as("victim/0", guest="EPIPE"), "is EPIPE, expected eof")
        for link in ("vsock", "serial-proxy", "hybrid-vsock")
    ),
    (
        "reliability-unplugged",
        "vsock",
        met_as("sending/0", guest="ENODEV"),
        "ENODEV, expected ECONNRESET or ENOTCONN",
    ),
    (
        "reliability-unplugged",
        "hybrid-vsock",
        met_as("listening/0", reconnect="ETIMEDOUT"),
        "reconnect of listening/0 is ETIMEDOUT, expected served or ECONNRESET",
    ),
    ("reliability-paused", "vsock", hit(then="gone"), "then of idle/0 is gone, expected served"),
    ("reliability-unplugged", "vsock", heard, "sees of listening/0 is called, expected nothing"),
    *(
        (scenario, link, met_as("calling/0", **facts), f" of calling/0 is {says}")
        for scenario, link, facts, says in (
            ("reliability-unplugged", "vsock", {"guest": "nothing"}, "nothing, expected ENODEV"),
            ("reliability-unplugged", "hybrid-vsock", {"guest": "nothing"}, "nothing, expected ENODEV"),
            ("reliability-unbound", "vsock", {"guest": "nothing"}, "nothing, expected ENODEV"),
            ("reliability-restored", "vsock", {"guest": "ENODEV"}, "ENODEV, expected nothing"),
            ("reliability-paused", "vsock", {"guest": "ETIMEDOUT"}, "ETIMEDOUT, expected nothing"),
            ("reliability-qemu-killed", "vsock", {"sees": "called"}, "called, expected nothing"),
            ("reliability-guest-panic", "vsock", {"sees": "called"}, "called, expected nothing"),
            ("reliability-shim-killed", "vsock", {"sees": "nothing"}, "nothing, expected called"),
        )
    ),
    ("reliability-restored", "vsock", hit(guest="nothing"), "is nothing, expected ECONNRESET"),
    ("reliability-unplugged", "vsock", hit(reconnect="ENODEV"), "reconnect of idle/0 is ENODEV"),
    ("reliability-proxy-killed", "serial-proxy", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-agent-killed", "vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected eof"),
    ("reliability-proxied-qemu-killed", "serial-proxy", hit(then="silent"), "is silent, expected gone"),
    ("reliability-proxied-qemu-quit", "serial-proxy", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-proxied-guest-panic", "serial-proxy", hit(sees="eof"), "is eof, expected nothing"),
    ("reliability-proxied-guest-reset", "serial-proxy", hit(then="served"), "is served, expected eof"),
    ("reliability-proxied-paused", "serial-proxy", hit(then="gone"), "is gone, expected served"),
    ("reliability-proxied-unplugged", "serial-proxy", hit(then="served"), "is served, expected eof"),
    ("reliability-proxied-restored", "serial-proxy", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-proxied-agent-killed", "serial-proxy", hit(sees="eof"), "is eof, expected nothing"),
    ("reliability-unbound", "vsock", hit(sees="ECONNRESET"), "of idle/0 is ECONNRESET, expected nothing"),
    ("reliability-unbound", "vsock", hit(reconnect="ETIMEDOUT"), "idle/0 is ETIMEDOUT, expected served"),
    *(
        ("reliability-shim-killed", link, late("victim/1", "containers", 5), "victim/1 were gone after 5 s")
        for link in ("vsock", "serial-proxy", "hybrid-vsock")
    ),
    (
        "reliability-shim-killed",
        "vsock",
        untold("victim/0", "containers-gone"),
        "the containers of victim/0 were not told to be gone, expected within",
    ),
    ("reliability-unplugged", "vsock", hit(containers="2 running"), "is 2 running, expected gone"),
    ("reliability-restored", "vsock", hit(containers="1 running"), "is 1 running, expected"),
    ("reliability-paused", "vsock", hit(containers="gone"), "is gone, expected 2 running"),
    ("reliability-proxy-killed", "serial-proxy", hit(containers="1 running"), "is 1 running, expected"),
    *(
        (scenario, link, late("idle/0", "host", 3.0), "idle/0 noticed after 3 s, expected within")
        for scenario, link in (
            ("reliability-qemu-killed", "vsock"),
            ("reliability-qemu-quit", "vsock"),
            ("reliability-restored", "vsock"),
            ("reliability-agent-killed", "vsock"),
            ("reliability-unplugged", "vsock"),
            ("reliability-proxy-killed", "serial-proxy"),
            ("reliability-proxied-qemu-killed", "serial-proxy"),
        )
    ),
    (
        "reliability-qemu-killed",
        "vsock",
        met_as("idle/1", sees="eof"),
        "sees of idle/1 is eof, expected ECONN",
    ),
    (
        "reliability-qemu-killed",
        "vsock",
        met_as("beside/0", then="gone"),
        "of beside/0 is gone, expected served",
    ),
    ("reliability-shim-killed", "vsock", surviving, "expected 1 containers running, seen 3"),
    ("reliability-shim-killed", "hybrid-vsock", surviving, "expected 1 containers running, seen 3"),
    *(
        (
            "reliability-receiving-shim-killed",
            link,
            met_as("victim/0", containers="2 running"),
            "containers of victim/0 is 2 running, expected gone",
        )
        for link in ("vsock", "serial-proxy")
    ),
    ("reliability-receiving-shim-killed", "hybrid-vsock", hit(then="silent"), "is silent, expected served"),
    ("reliability-guest-reset", "hybrid-vsock", hit(then="eof"), "then of idle/0 is eof, expected silent"),
    ("reliability-unbound", "hybrid-vsock", hit(reconnect="served"), "is served, expected ETIMEDOUT"),
    ("reliability-unplugged", "hybrid-vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected eof"),
    ("reliability-unplugged", "hybrid-vsock", hit(containers="2 running"), "is 2 running, expected gone"),
    ("reliability-shim-killed", "serial-proxy", hit(sees="eof"), "sees of idle/0 is eof"),
]
