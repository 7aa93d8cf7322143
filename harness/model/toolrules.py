"""What a scenario must keep to whose clients are tools that speak to programs in the guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from harness.model import written
from harness.model.document import Node, Problems
from harness.model.link import AGENT_PORT, Link
from harness.model.plan import Connection, GroupPlan, Initiated
from harness.model.program import ProgramName, ProgramPlan, Tool, is_free
from harness.model.resolve import WrittenGroup, word_of
from harness.model.writtentools import Program, UsedTool

_TOOL_STEPS = ("exchange", "copy")


def check_programs(file: written.File, groups: list[WrittenGroup], root: Node, problems: Problems) -> None:
    """Note in `problems` where `programs`, the groups' tools and their steps do not fit together."""
    programs = written_programs(file)
    _ports(programs, root, problems)
    for source in groups:
        if isinstance(source.group.tool, UnsetType):
            _only_for_tools(source, root, problems)
            continue
        tool = source.group.tool
        _speaks_to(tool, source, programs, root, problems)
        _fits(tool.name, source, root, problems)
        for index, link in enumerate(file.links):
            if link not in tool.name.links:
                what = f"{tool.name.value} of group {source.name!r} does not speak over link {link.value!r}"
                allowed = [known.value for known in tool.name.links]
                problems.add(root.at("links", index).mark, what, allowed)


def check_port(
    programs: Sequence[ProgramPlan],
    groups: Sequence[GroupPlan],
    link: Link,
    root: Node,
    problems: Problems,
) -> None:
    """Note in `problems` why the groups' tools can't reach their programs on `link`."""
    by_name = {program.name: program for program in programs}
    used = [group.tool for group in groups if group.tool and group.tool.to in by_name]
    if link is Link.VSOCK:
        for name in dict.fromkeys(tool.to for tool in used):
            if by_name[name].port is None:
                what = f"{name.value} has no 'port' by which it is reached on link 'vsock'"
                problems.add(root.at("programs").keys[name.value], what)
        return
    several = list(dict.fromkeys(tool.to for tool in used))
    for name in several[1:]:
        what = f"on link {link.value!r} one program has a port: {several[0].value}, so not {name.value}"
        problems.add(root.at("programs").keys[name.value], what)


def written_programs(file: written.File) -> Mapping[ProgramName, Program]:
    """The programs that `file` names, in its order."""
    return {} if isinstance(file.programs, UnsetType) else file.programs


def _ports(programs: Mapping[ProgramName, Program], root: Node, problems: Problems) -> None:
    taken: dict[int, ProgramName] = {}
    for name, program in programs.items():
        if isinstance(program.port, UnsetType):
            continue
        mark = root.at("programs", name.value, "port").mark
        if program.run is UNSET:
            problems.add(mark, f"{name.value} has a 'port' but is not 'run'")
        if not is_free(program.port):
            problems.add(mark, f"port {AGENT_PORT} is the agent's")
        if program.port in taken:
            problems.add(mark, f"port {program.port} is {taken[program.port].value}'s")
        taken.setdefault(program.port, name)


def _speaks_to(
    tool: UsedTool,
    source: WrittenGroup,
    programs: Mapping[ProgramName, Program],
    root: Node,
    problems: Problems,
) -> None:
    mark = root.at(*source.at("tool"), "to").mark
    running = [name.value for name, program in programs.items() if program.run is not UNSET]
    if tool.to not in programs:
        problems.add(mark, f"{tool.to.value} is not in 'programs'", running)
    elif tool.to.value not in running:
        problems.add(mark, f"{tool.to.value} is not 'run'", running)


def _fits(tool: Tool, source: WrittenGroup, root: Node, problems: Problems) -> None:
    group = source.group
    beside = (
        ("connection", group.connection != Connection.OWN),
        ("initiated", group.initiated != Initiated.HOST),
        ("elsewhere", group.elsewhere),
    )
    for key, is_set in beside:
        if is_set:
            problems.add(
                root.key_mark(*source.at(key)), f"{key!r} is for the agent's clients, not for a tool"
            )
    for index, step in enumerate(group.workload):
        if (op := word_of(step)) not in tool.steps:
            mark = root.key_mark(*source.workload_path, index, op)
            problems.add(mark, f"{tool.value} cannot do the step {op!r}", tool.steps)


def _only_for_tools(source: WrittenGroup, root: Node, problems: Problems) -> None:
    for index, step in enumerate(source.group.workload):
        if (op := word_of(step)) in _TOOL_STEPS:
            tools = [tool.value for tool in Tool if op in tool.steps]
            what = f"{op!r} is done by a tool: give the group a 'tool'"
            problems.add(root.key_mark(*source.workload_path, index, op), what, tools)
