"""How soon each end noticed the fault, and containers were gone, from the trace alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.plan import Plan
from harness.model.trace import CONTAINERS_GONE, GUEST_NOTICED, Event, What
from harness.model.verdict import Noticing


def noticed(plan: Plan, trace: Sequence[Event]) -> tuple[Noticing, ...]:
    """Each noticing that `plan` expects, one of each client of the group, as `trace` has it."""
    told = dict(_told(trace))
    return tuple(
        Noticing(client=client, end=end, seconds=told.get((client, end)), most=most, slowness=wanted.slowness)
        for group in plan.groups
        if (wanted := plan.expect.noticed.get(group.name))
        for end, most in wanted.bounds.items()
        for client in group.clients
    )


def _told(trace: Sequence[Event]) -> Iterator[tuple[tuple[str, str], float]]:
    """Client and end, and seconds after the fault. Who saw nothing did not notice."""
    for event in trace:
        if event.what is What.NOTICED and event.detail.get("sees") != "nothing":
            yield (event.client, "host"), float(event.detail.get("seconds") or 0)
        elif event.what is What.FACT:
            for end, name in (("guest", GUEST_NOTICED), ("containers", CONTAINERS_GONE)):
                if name in event.detail:
                    yield (event.client, end), float(event.detail[name] or 0)
