"""Rows of `tests.unit.reds`: of serial ports, and of the scenarios about them."""

from __future__ import annotations

from tests.unit import traces
from tests.unit.systems import (
    Red,
    answering_anyway,
    dead,
    flipped,
    opening,
    seeing,
    serving,
    undialled_by_guest,
)
from tests.unit.traces import everybody_served, one_at_a_time

SERIAL: list[Red] = [
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
]
