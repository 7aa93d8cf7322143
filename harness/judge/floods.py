"""Whether a flood was a load to those who talked beside it, from the trace alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.model.plan import GroupPlan, Plan
from harness.model.steps import Flood, Moment, WaitFor
from harness.model.trace import Event, What

APART = 1.0
"""Seconds of a plain machine between two PROGRESS events of a flood that moves beside others who say little:
at most. The coordinator waits so long for one."""

_HAS_DONE = (What.HOLDING, What.LEFT, What.REFUSED, What.LOST, What.ENDED)


def unloaded(plan: Plan, trace: Sequence[Event], name: str, begun: float, over: float) -> str:
    """Which flood was no load to the group `name`, that talked from `begun` to `over`, and why; empty if each
    of the others' was: it moved bytes in between, and was not through.

    What is known of a flood are its PROGRESS events, which may be further apart than a quick talk is long: so
    it has moved, too, if one shows more bytes soon afterwards, or while it was waited for. A flood that
    begins only after `name` is none of its.
    """
    soon = over + max(over - begun, APART * plan.expect.slowdown[name].slowness)
    soon = max(soon, _waited(plan, trace, soon))
    for group in plan.groups:
        if group.name == name or not isinstance(group.workload[-1], Flood) or _follows(plan, group, name):
            continue
        for client in group.clients:
            told = [event for event in trace if event.client == client and event.what is What.PROGRESS]
            told = [event for event in told if event.step == len(group.workload) - 1]
            if any(is_through(event) and event.at < over for event in told):
                return f"the flood of {client} was through before {name} was: it needs more bytes"
            before = max((_moved(event) for event in told if event.at <= begun), default=0)
            after = [event for event in told if begun < event.at <= soon or is_through(event)]
            if not any(_moved(event) > before or is_through(event) for event in after):
                return f"the flood of {client} moved no byte while {name} talked"
    return ""


def is_through(event: Event) -> bool:
    """Whether it says that all bytes of a flood have moved."""
    return event.what is What.PROGRESS and bool(event.detail.get("through"))


def _waited(plan: Plan, trace: Sequence[Event], soon: float) -> float:
    """Until when all who had done what they do were kept, that floods might tell; 0 if not all had by `soon`.

    It may be longer than `APART`: a coordinator that is late itself counts that as no silence of theirs.
    """
    done: dict[str, float] = {}
    for event in trace:
        if event.what in _HAS_DONE:
            done.setdefault(event.client, event.at)
    since = max(done.values(), default=0.0)
    if len(done) < len(plan.clients) or since > soon:
        return 0.0
    ends = (event.at for event in trace if event.what in (What.LEFT, What.ENDED) and event.at > since)
    return min(ends, default=math.inf)


def _moved(event: Event) -> int:
    """Bytes so far, both ways."""
    return sum(int(event.detail.get(way) or 0) for way in ("sent", "received"))


def _follows(plan: Plan, group: GroupPlan, name: str) -> bool:
    """Whether `group` begins its last step only when all of `name` have done what they do."""
    by_name = {one.name: one for one in plan.groups}
    waits = [step for step in group.workload if isinstance(step, WaitFor) and step.event is not Moment.PARKED]
    before = {group.after, *(step.group for step in waits)} - {None}
    return any(one == name or _follows(plan, by_name[one], name) for one in before if one)
