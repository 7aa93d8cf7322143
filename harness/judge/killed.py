"""Whether those whom a fault kills died of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.model.trace import BY_SIGKILL, Event, What
from harness.model.verdict import ClientEnd


def not_killed(plan: Plan, trace: Sequence[Event], ends: Sequence[ClientEnd]) -> Iterator[str]:
    """In words, each client that the fault was to kill and that ended in another way, or before it was in the
    middle of what it was to be: ``lost`` would be said of it as well."""
    for group in plan.groups:
        if plan.fault is None or not plan.fault.kills(group.name):
            continue
        doing = {step.doing.value for step in group.workload if isinstance(step, MeetFault)}
        for end in ends:
            if end.client not in group.clients:
                continue
            own = [event for event in trace if event.client == end.client]
            lost = next((place for place, event in enumerate(own) if event.what is What.LOST), None)
            if lost is None or own[lost].detail.get("process") != BY_SIGKILL:
                yield f"{end.client} was not killed by the fault: it {end.why}"
            elif not any(e.what is What.READY and e.detail.get("doing") in doing for e in own[:lost]):
                yield f"{end.client} was killed before it was {' or '.join(sorted(doing))}: no fault's doing"
