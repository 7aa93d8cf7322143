"""What a scenario leaves unsaid of those who meet its fault: filled in, or a mistake."""

from __future__ import annotations

import msgspec

from harness.model.document import Node, Problems
from harness.model.expect import Expectation, FactWanted, Word
from harness.model.factwords import CALLED, NOTHING, SERVED, FactName
from harness.model.fault import Fault, While
from harness.model.link import Link
from harness.model.plan import GroupPlan, Initiated
from harness.model.steps import MeetFault


def completed(
    expect: Expectation, groups: list[GroupPlan], fault: Fault, link: Link, node: Node, problems: Problems
) -> Expectation:
    """`expect` with what holds of each group that the fault does nothing to, unless it says otherwise.

    Of who may see something of it nothing is filled in: what becomes of a connection depends on that.
    A group that it is done to, and of which nothing is said, is noted in `problems`, at the facts of `node`:
    all could happen to it. Whose clients it kills is judged by their death, and who is not to be served may
    tell nothing.
    """
    facts = {group: dict(wanted) for group, wanted in expect.facts.items()}
    for group in groups:
        step = next((step for step in group.workload if isinstance(step, MeetFault)), None)
        if step is None or fault.kills(group.name) or not _may_be_served(expect, group):
            continue
        if fault.spares(group.name, elsewhere=group.elsewhere):
            known = undisturbed(group, step, link)
            if _seen(expect, group) <= _values(known[FactName.SEES.value]):
                facts[group.name] = {**known, **facts.get(group.name, {})}
        elif not facts.get(group.name) and group.name not in expect.noticed:
            what = f"nothing is said of what the fault does to group {group.name!r}: it needs a fact such as"
            problems.add(node.keys.get("facts", node.mark), f"{what} {FactName.SEES.value!r}")
    return msgspec.structs.replace(expect, facts=facts)


def undisturbed(group: GroupPlan, step: MeetFault, link: Link) -> dict[str, FactWanted]:
    """The facts of who notices nothing: sees nothing, then is served, and so is a new connection (which a
    serial port has none of beside the old one)."""
    sees: FactWanted = NOTHING
    if step.doing is While.CONNECTING and group.initiated is not Initiated.HOST:
        sees = CALLED if group.initiated is Initiated.GUEST else (NOTHING, CALLED)
    facts: dict[str, FactWanted] = {FactName.SEES.value: sees}
    if step.doing.has_connection:
        facts[FactName.THEN.value] = SERVED
    if not link.is_serial_port or link.is_proxied:
        facts[FactName.RECONNECT.value] = SERVED
    return facts


def _seen(expect: Expectation, group: GroupPlan) -> set[str]:
    """All that `sees` of `group` may be by the scenario, on whatever kernel; empty where it is not named."""
    named = expect.facts.get(group.name, {}).get(FactName.SEES.value, ())
    newer = [one.wanted for one in expect.newer if (one.group, one.fact) == (group.name, FactName.SEES)]
    return set().union(*map(_values, [named, *newer]))


def _values(wanted: FactWanted) -> set[str]:
    return {wanted} if isinstance(wanted, str) else set(wanted)


def _may_be_served(expect: Expectation, group: GroupPlan) -> bool:
    counts = (expect.groups or {}).get(group.name) or expect.totals or {}
    return Word.SERVED not in counts or counts[Word.SERVED].max != 0
