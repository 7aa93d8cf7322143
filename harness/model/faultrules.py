"""What a scenario with a fault must keep to."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from harness.model import written
from harness.model.document import Node, Problems
from harness.model.fault import FaultKind, While
from harness.model.plan import Connection, Initiated, Schedule
from harness.model.resolve import WrittenGroup


def check_fault(file: written.File, groups: list[WrittenGroup], root: Node, problems: Problems) -> None:
    """Note in `problems` where `fault`, the groups and their steps `meet-fault` do not fit together."""
    meeting = {source.name: count for source in groups if (count := _meetings(source, root, problems))}
    for source in groups:
        if source.group.elsewhere and file.fault is UNSET:
            problems.add(
                root.key_mark(*source.at("elsewhere")), "'elsewhere' is for scenarios with a 'fault'"
            )
        if source.name in meeting and source.group.connection is not Connection.OWN:
            problems.add(root.key_mark(*source.at("connection")), "who meets a fault has its own connection")
    if isinstance(file.fault, UnsetType):
        for source in groups:
            if source.name in meeting:
                mark = root.at(*source.workload_path).mark
                problems.add(mark, "'meet-fault' without a 'fault' in the scenario")
        return
    if not meeting:
        problems.add(root.keys["fault"], "nobody meets the fault: no group has the step 'meet-fault'")
    if file.schedule is Schedule.SEQUENTIAL:
        problems.add(root.keys["fault"], "a fault needs clients that work at once: not sequential")
    _group(file.fault, list(meeting), root, problems)
    for source in groups:
        _doing(source, root, problems, ports=any(not link.is_vsock for link in file.links))
    for index, link in enumerate(file.links):
        allowed = file.fault.kind.links
        if link not in allowed:
            what = f"{file.fault.kind.value} cannot be done on link {link.value!r}"
            problems.add(root.at("links", index).mark, what, [known.value for known in allowed])


def _group(fault: written.Fault, meeting: list[str], root: Node, problems: Problems) -> None:
    if fault.kind is not FaultKind.SHIM_KILL:
        if fault.group:
            problems.add(root.key_mark("fault", "group"), f"{fault.kind.value} is done to no group")
    elif not fault.group:
        problems.add(root.at("fault").mark, "shim-kill needs 'group': whose clients are killed", meeting)
    else:
        named = (fault.group,) if isinstance(fault.group, str) else fault.group
        for index, group in enumerate(named):
            if group not in meeting:
                place = () if isinstance(fault.group, str) else (index,)
                mark = root.at("fault", "group", *place).mark
                problems.unknown(mark, "group with 'meet-fault'", group, meeting)


def _doing(source: WrittenGroup, root: Node, problems: Problems, *, ports: bool) -> None:
    """Who opens connections in the step `listening` is known: the guest."""
    for index, step in enumerate(source.group.workload):
        if not isinstance(step.meet_fault, written.MeetFault):
            continue
        said = step.meet_fault.doing
        doing = set(said.values()) if isinstance(said, dict) else {said}
        mark = root.at(*source.workload_path, index, "meet-fault", "while").mark
        if While.LISTENING in doing and ports:
            problems.add(mark, "'listening' is for vsock: a guest connects over no serial port")
        if While.LISTENING in doing and source.group.initiated is not Initiated.HOST:
            problems.add(mark, "'listening' is about connections of its own: not with 'initiated'")


def _meetings(source: WrittenGroup, root: Node, problems: Problems) -> int:
    """How many steps `meet-fault` a group has: a fault comes once."""
    places = [index for index, step in enumerate(source.group.workload) if step.meet_fault is not UNSET]
    for index in places[1:]:
        mark = root.key_mark(*source.workload_path, index, "meet-fault")
        problems.add(mark, "a second 'meet-fault': the fault comes once")
    return len(places)
