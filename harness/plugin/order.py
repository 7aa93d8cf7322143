"""Which items are run first: those that take long, so that no host works when others have nothing left."""

from __future__ import annotations

import pytest

from harness.model.link import Link
from harness.model.plan import Plan
from harness.plugin.item import ScenarioItem

_RATES = {Link.ISA_SERIAL: 2_000, Link.VIRTCONSOLE: 40_000}
_RATE = 3_000_000
"""Bytes a second of a plan's data in a lab under emulation."""

_CLIENT = 0.15
_TRIP = 0.005
_WAITS = 2.0
_FAULT = 5.0
"""Seconds there for a client, for a round trip, to see that others wait, and for a fault."""

_ENOUGH = 1 << 20
"""Bytes of a step after which it is mostly over in another way: a flood ends with the scenario."""


def seconds(plan: Plan) -> float:
    """About how many seconds of a lab's a plan takes; good for comparing only."""
    clients = sum(group.count for group in plan.groups)
    rate = _RATES.get(plan.link, _RATE)
    told = _CLIENT * clients
    for group in plan.groups:
        for step in group.workload:
            times = getattr(step, "times", 1)
            told += group.count * (min(getattr(step, "bytes", 0), _ENOUGH) / rate + _TRIP) * times
    if plan.link.is_serial_port and not plan.link.is_proxied:
        told = (told if plan.drain else told / clients) + _WAITS * (clients > 1)  # one is served at a time
    return told + _FAULT * (plan.fault is not None)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort `items`: what is marked `long`, tests before scenarios, as it is not known how long they take."""
    items.sort(key=_key)


def _key(item: pytest.Item) -> tuple[bool, bool, float]:
    is_short = item.get_closest_marker("long") is None
    return (is_short, True, -seconds(item.plan)) if isinstance(item, ScenarioItem) else (is_short, False, 0.0)
