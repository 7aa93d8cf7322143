"""For each scenario and each of its links, systems that turn it red, and what the verdict then says."""

from __future__ import annotations

from tests.unit import traces
from tests.unit.systems import (
    System,
    answering_anyway,
    dead,
    flipped,
    heard,
    hit,
    inheriting,
    late,
    met_as,
    mixed,
    noticing,
    opening,
    outliving,
    refusing_last,
    seeing,
    served_next,
    serving,
    slow,
    surviving,
    undialled,
    undialled_by_guest,
    untold,
)
from tests.unit.traces import everybody_served, one_at_a_time
from tests.unit.unasked import UNASKED

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

BEHIND_A_PORT: list[tuple[str, str, System, str]] = [
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
]
"""Of a serial port that has one client."""

RED: list[tuple[str, str, System, str]] = [
    *UNASKED,
    ("serial-portable", "virtio-serial", flipped, "garbled 1 of 1, expected 0"),
    ("serial-portable", "virtconsole", flipped, "read wrong data in step 4 (echo): expected 00, seen 01"),
    ("serial-portable", "isa-serial", dead, "waiting 1 of 1, expected 0"),
    ("serial-portable", "vsock", dead, "served 0 of 2, expected 2"),
    ("serial-portable", "serial-proxy", flipped, "read wrong data in step 4 (echo): expected 00, seen 01"),
    ("serial-portable", "hybrid-vsock", seeing("client/1", 3, "00", "01"), "client/1 read wrong data"),
    ("serial-portable", "vsock", undialled_by_guest, "served 1 of 2, expected 2; first: client/1"),
    ("serial-second-opener", "virtio-serial", opening("opened"), "client/0 is opened, expected EBUSY"),
    ("serial-second-opener", "virtconsole", opening("EBUSY"), "client/0 is EBUSY, expected opened"),
    ("serial-second-opener", "isa-serial", opening("EBUSY"), "client/0 is EBUSY, expected opened"),
    ("serial-second-opener", "vsock", opening("opened"), "client/0 is opened, expected no-device"),
    ("serial-second-opener", "serial-proxy", opening("opened"), "client/0 is opened, expected EBUSY"),
    ("serial-second-opener", "hybrid-vsock", opening("opened"), "client/0 is opened, expected no-device"),
    ("serial-second-client", "vsock", one_at_a_time, "waited 2 of 3, expected 0; first: client/1 was served"),
    ("serial-second-client", "virtio-serial", everybody_served, "waited 0 of 3, expected 2"),
    ("serial-second-client", "virtconsole", serving(2), "waited 1 of 3, expected 2"),
    ("serial-second-client", "isa-serial", everybody_served, "waited 0 of 3, expected 2"),
    ("serial-second-client", "serial-proxy", one_at_a_time, "waited 2 of 3, expected 0"),
    ("serial-second-client", "hybrid-vsock", one_at_a_time, "waited 2 of 3, expected 0"),
    ("serial-two-writers", "vsock", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-two-writers", "vsock", undialled_by_guest, "served 1 of 2, expected 2"),
    ("serial-two-writers", "virtio-serial", everybody_served, "served 2 of 2, expected at most 1"),
    ("serial-two-writers", "virtconsole", everybody_served, "served 2 of 2, expected at most 1"),
    ("serial-two-writers", "isa-serial", dead, "garbled 0 of 2, expected at least 1"),
    ("serial-two-writers", "serial-proxy", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-two-writers", "hybrid-vsock", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-stale-reply", "vsock", traces.stale, "group next: stale 2 of 2, expected 0"),
    ("serial-stale-reply", "virtio-serial", answering_anyway, "group next: served 1 of 1, expected 0"),
    ("serial-stale-reply", "virtconsole", answering_anyway, "group next: served 1 of 1, expected 0"),
    ("serial-stale-reply", "isa-serial", answering_anyway, "group next: stale 0 of 1, expected 1"),
    ("serial-stale-reply", "serial-proxy", traces.stale, "group next: stale 1 of 1, expected 0"),
    ("serial-stale-reply", "hybrid-vsock", traces.stale, "group next: stale 2 of 2, expected 0"),
    ("multiple-clients-8", "vsock", one_at_a_time, "served 1 of 8, expected 8; first: client/1 saw nothing"),
    ("multiple-clients-8", "virtio-serial", serving(2), "2 of 8, expected 1; first: client/1 was served"),
    ("multiple-clients-8", "virtconsole", everybody_served, "waiting 0 of 8, expected 7"),
    ("multiple-clients-8", "isa-serial", dead, "served 0 of 8, expected 1"),
    ("multiple-clients-8", "serial-proxy", one_at_a_time, "served 1 of 8, expected 8"),
    ("multiple-clients-8", "hybrid-vsock", one_at_a_time, "served 1 of 8, expected 8"),
    ("multiple-clients-50", "vsock", refusing_last, "dialled/7 was refused: ECONNRESET at connect"),
    ("multiple-clients-50", "vsock", undialled_by_guest, "served 42 of 50, expected 50"),
    ("multiple-clients-50", "virtio-serial", serving(2), "served 2 of 50, expected 1"),
    ("multiple-clients-50", "serial-proxy", refusing_last, "dialled/7 was refused: ECONNRESET at connect"),
    ("multiple-clients-50", "hybrid-vsock", refusing_last, "dialled/7 was refused: ECONNRESET at connect"),
    ("multiple-clients-guest-initiated", "vsock", undialled, "group dialled: served 0 of 4, expected 4"),
    ("multiple-clients-guest-initiated", "hybrid-vsock", undialled, "dialled: served 0 of 4, expected 4"),
    ("multiple-clients-guest-initiated", "vsock", flipped, "group dialled: garbled 1 of 4, expected 0"),
    (
        "multiple-clients-seqpacket",
        "vsock",
        seeing("dialled/1", 0, "message 2 of 1 bytes", "4097 bytes"),
        "group dialled: garbled 1 of 2, expected 0",
    ),
    ("multiple-clients-seqpacket", "vsock", refusing_last, "dialled/1 was refused: ECONNRESET at connect"),
    (
        "multiple-clients-seqpacket-off",
        "vsock",
        seeing("dialling/0", 0, "ESOCKTNOSUPPORT", "a connection"),
        "dialling/0 read wrong data in step 1 (connect): expected ESOCKTNOSUPPORT, seen a connection",
    ),
    *(
        (
            "multiple-clients-refused",
            link,
            seeing("dialling/0", 1, "ECONNRESET", "a connection"),
            "dialling/0 read wrong data in step 2 (connect): expected ECONNRESET, seen a connection",
        )
        for link in ("vsock", "hybrid-vsock")
    ),
    (
        "multiple-clients-no-such-cid",
        "vsock",
        seeing("dialling/0", 2, "ETIMEDOUT or EHOSTUNREACH", "a connection"),
        "dialling/0 read wrong data in step 3 (connect): expected ETIMEDOUT or EHOSTUNREACH, seen a conn",
    ),
    ("multiple-clients-stalled", "vsock", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-stalled", "virtio-serial", everybody_served, "others: served 4 of 4, expected 0"),
    ("multiple-clients-stalled", "serial-proxy", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-stalled", "hybrid-vsock", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-stalled", "vsock", undialled_by_guest, "group stalled: served 1 of 2, expected 2"),
    ("multiple-clients-flood", "vsock", slow(beside=9000), "beside 9e+03 × as slow as alone"),
    ("multiple-clients-flood", "serial-proxy", slow(beside=9000), "median round trip 1 ms, then 9e+03 ms"),
    ("multiple-clients-stalled", "vsock", slow(others=100), "others 100 × as slow as before"),
    ("multiple-clients-stalled", "serial-proxy", slow(others=100), "6.4e+03 KiB/s, then 64 KiB/s"),
    ("multiple-clients-stalled", "hybrid-vsock", slow(others=100), "others 100 × as slow as before"),
    ("multiple-clients-flood", "vsock", slow(**{"beside/2": 900}), "its slowest client 900 ×"),
    ("multiple-clients-flood-small", "vsock", slow(talkers=1), "talkers 1 × as slow as alone"),
    ("multiple-clients-flood-small", "vsock", slow(newcomers=1), "newcomers 1 × as slow as alone"),
    ("multiple-clients-small-talkers", "vsock", slow(**{"talkers/7": 1e4}), "slowest: talkers/7"),
    ("multiple-clients-small-talkers", "vsock", slow(dialled=1e4), "dialled 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "serial-proxy", slow(dialled=1), "dialled 1 × as slow as alone"),
    ("multiple-clients-small-talkers", "hybrid-vsock", slow(dialled=1e4), "dialled 1e+04 × as slow as alone"),
    ("multiple-clients-flood", "hybrid-vsock", slow(beside=9000), "beside 9e+03 × as slow as alone"),
    ("multiple-clients-flood-small", "vsock", slow(talkers=9000), "talkers 9e+03 × as slow as alone"),
    ("multiple-clients-flood-small", "vsock", refusing_last, "newcomers/1 was refused: ECONNRESET"),
    ("multiple-clients-flood-small", "serial-proxy", slow(newcomers=900), "newcomers 900 × as slow as alone"),
    ("multiple-clients-flood-small", "hybrid-vsock", slow(talkers=90), "talkers 90 × as slow as alone"),
    ("multiple-clients-small-talkers", "hybrid-vsock", slow(talkers=1e4), "talkers 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "hybrid-vsock", slow(flood=1e4), "flood 1e+04 × as slow as bulk"),
    (
        "multiple-clients-streams-only",
        "hybrid-vsock",
        seeing("dialled/0", 3, "ETIMEDOUT", "a connection"),
        "dialled/0 read wrong data in step 4 (connect): expected ETIMEDOUT, seen a connection",
    ),
    ("multiple-clients-small-talkers", "vsock", refusing_last, "dialled/5 was refused: ECONNRESET"),
    ("multiple-clients-small-talkers", "vsock", undialled_by_guest, "dialled: served 0 of 6, expected 6"),
    ("multiple-clients-small-talkers", "vsock", slow(talkers=1e4), "talkers 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "vsock", slow(flood=1e4), "flood 1e+04 × as slow as bulk"),
    ("multiple-clients-small-talkers", "serial-proxy", slow(talkers=1e4), "talkers 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "serial-proxy", slow(flood=1e4), "flood 1e+04 × as slow as bulk"),
    ("multiple-clients-nbdkit", "vsock", seeing("here/1", 2, "a", "b"), "here: garbled 1 of 2, expected 0"),
    ("multiple-clients-nbdkit", "vsock", refusing_last, "there/1 was refused: ECONNRESET at connect"),
    ("multiple-clients-sshd", "vsock", one_at_a_time, "group here: served 1 of 2, expected 2"),
    ("multiple-clients-qemu-ga", "vsock", everybody_served, "group others: served 4 of 4, expected 2"),
    ("multiple-clients-qemu-ga", "vsock", one_at_a_time, "group others: served 4 of 4, expected 2"),
    ("multiple-clients-qemu-ga", "virtio-serial", everybody_served, "others: waited 0 of 4, expected 4"),
    ("multiple-clients-qemu-ga", "isa-serial", traces.backlogged, "others: served 2 of 4, expected 4"),
    ("pod-diagram", "vsock", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram", "virtio-serial", everybody_served, "served 2 of 2, expected 1"),
    ("pod-diagram", "virtconsole", everybody_served, "served 2 of 2, expected 1"),
    ("pod-diagram", "isa-serial", dead, "served 0 of 2, expected 1"),
    ("pod-diagram", "serial-proxy", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram", "hybrid-vsock", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram-one-leaves", "vsock", noticing, "lost its connection in step 4 (containers): ECONNRESET"),
    ("pod-diagram-one-leaves", "vsock", undialled_by_guest, "group shim-1: served 1 of 2, expected 2"),
    ("pod-diagram-one-leaves", "vsock", outliving, "expected 1 containers running, seen 2"),
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
        met_as("listening/0", reconnect="ECONNRESET"),
        "reconnect of listening/0 is ECONNRESET, expected served",
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
    ("reliability-serial-unplugged", "virtio-serial", hit(then="silent"), "is silent, expected served"),
    (
        "reliability-serial-shim-killed",
        "virtio-serial",
        late("victim/0", "containers", 5),
        "the containers of victim/0 were gone after 5 s, expected within",
    ),
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
    (
        "multiple-clients-8",
        "vsock",
        undialled_by_guest,
        "served 4 of 8, expected 8; first: client/7",
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
    ("pod-diagram-one-leaves", "serial-proxy", outliving, "expected 1 containers running, seen 2"),
    ("pod-diagram-one-leaves", "hybrid-vsock", outliving, "expected 1 containers running, seen 2"),
    *BEHIND_A_PORT,
]
