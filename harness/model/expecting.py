"""Reads the expectation of one link, and notes counts that cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from harness.model import sayable, writtenexpect
from harness.model.check import check
from harness.model.document import Node, Problems
from harness.model.expect import (
    ENDS,
    Bounds,
    Counts,
    Expectation,
    FactWanted,
    Noticed,
    OnKernel,
    Slowdown,
    Word,
    version_of,
)
from harness.model.factwords import FactName
from harness.model.plan import GroupPlan
from harness.model.shape import shape_of
from harness.model.steps import BULK, MeetFault, OpenDevice, Ping, Start

_BESIDE = ("facts", "noticed", "slowdown")
"""Keys that count no clients."""


def expectation(node: Node, groups: list[GroupPlan], problems: Problems, name: str) -> Expectation:
    """The expectation that `node` states for `groups`; what is wrong with it is noted in `problems`.

    :param name: what messages call it.
    """
    by_name = {group.name: group for group in groups}
    if not isinstance(node.value, dict):
        problems.add(node.mark, f"{name} must be a mapping, not {node.kind}", (*Word, *_BESIDE, *by_name))
        return Expectation()
    words = {key: value for key, value in node.value.items() if key in tuple(Word)}
    named = {key: value for key, value in node.value.items() if key in by_name}
    for key in node.value:
        if key not in words and key not in named and key not in _BESIDE:
            problems.unknown(node.keys[key], "word or group", key, (*Word, *_BESIDE, *by_name))
            return Expectation()
    if not _one_form(node, words, named, by_name, problems, name):
        return Expectation()
    facts, noticed, slowdown = (node.value.get(key) for key in _BESIDE)
    given = _facts(facts, by_name, problems, f"facts of {name}") if facts else _Facts({}, ())
    return Expectation(
        totals=_counts(node, words, sum(group.count for group in groups), problems, name) if words else None,
        groups={
            key: _group(value, by_name[key].count, problems, f"{name} of {key}")
            for key, value in named.items()
        }
        if named
        else None,
        facts=given.facts,
        newer=given.newer,
        noticed=_noticed(noticed, by_name, problems, f"noticed of {name}") if noticed else {},
        slowdown=_slowdown(slowdown, by_name, problems, f"slowdown of {name}") if slowdown else {},
    )


def _one_form(
    node: Node,
    words: Mapping[str, Node],
    named: Mapping[str, Node],
    groups: Mapping[str, GroupPlan],
    problems: Problems,
    name: str,
) -> bool:
    if words and named:
        what = f"{name} counts either all clients together or each group, not both"
        second = max((node.keys[next(iter(words))], node.keys[next(iter(named))]))
        problems.add(second, what)
    elif not words and not named:
        problems.add(node.mark, f"{name} says nothing of how clients end", (*Word, *groups))
    missing = [group for group in groups if named and not words and group not in named]
    for group in missing:
        problems.add(node.mark, f"{name} says nothing of group {group!r}")
    return bool(words) != bool(named) and not missing


def _group(node: Node, clients: int, problems: Problems, name: str) -> Counts:
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.mark, f"{name} must be a mapping of counts, not {node.kind}", Word)
        return {}
    known = {}
    for key, value in node.value.items():
        if key in tuple(Word):
            known[key] = value
        else:
            problems.unknown(node.keys[key], "word", key, Word)
    return _counts(node, known, clients, problems, name) if len(known) == len(node.value) else {}


def _counts(node: Node, words: Mapping[str, Node], clients: int, problems: Problems, name: str) -> Counts:
    before = len(problems)
    counts = {Word(key): _bounds(value, clients, problems, key) for key, value in words.items()}
    for word in ENDS:
        counts.setdefault(word, Bounds(max=0))
    if len(problems) == before:
        _feasible(node, counts, clients, problems, name)
        sayable.counts(node, counts, clients, problems, name)
    return counts


def _bounds(node: Node, clients: int, problems: Problems, name: str) -> Bounds:
    before = len(problems)
    check(node, shape_of(writtenexpect.Count), problems, name)
    if len(problems) > before:
        return Bounds()
    if isinstance(node.value, int):
        if node.value > clients:
            problems.add(node.mark, f"{name}: {node.value} of {clients} clients cannot be")
        return Bounds(min=node.value, max=node.value)
    bounds = msgspec.convert(node.plain(), Bounds)
    if not node.value:
        problems.add(node.mark, f"{name} needs a number, or 'min', 'max' or both")
    elif bounds.max is not None and bounds.min > bounds.max:
        problems.add(node.mark, f"{name}: min {bounds.min} is more than max {bounds.max}")
    elif max(bounds.min, bounds.max or 0) > clients:
        problems.add(node.mark, f"{name}: {bounds} of {clients} clients cannot be")
    return bounds


def _feasible(node: Node, counts: Counts, clients: int, problems: Problems, name: str) -> None:
    least = sum(counts[word].min for word in ENDS)
    most = sum(clients if (high := counts[word].max) is None else high for word in ENDS)
    if least > clients:
        problems.add(node.mark, f"{name} accounts for at least {least} of {clients} clients")
    elif most < clients:
        problems.add(node.mark, f"{name} accounts for {most} of {clients} clients: how do the others end?")
    served = counts[Word.SERVED].max
    for word in (Word.INTACT, Word.WAITED):
        if word in counts and served is not None and counts[word].min > served:
            mark = node.at(word.value).mark
            problems.add(mark, f"{word.value}: {counts[word]}, but served: {counts[Word.SERVED]}")


def _by_group(
    node: Node, groups: Mapping[str, GroupPlan], problems: Problems, name: str, kind: Any
) -> Iterator[tuple[str, Node]]:
    """Groups' names and what is said of each: of those that are named rightly, and have a `kind`."""
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.mark, f"{name} must be a mapping by group, not {node.kind}", groups)
        return
    for key, value in node.value.items():
        if key not in groups:
            problems.unknown(node.keys[key], "group", key, groups)
            continue
        before = len(problems)
        check(value, shape_of(kind), problems, f"{name} of {key}")
        if len(problems) == before:
            yield key, value


class _Facts(NamedTuple):
    """`Expectation.facts` and `Expectation.newer`."""

    facts: dict[str, dict[str, FactWanted]]
    newer: tuple[OnKernel, ...]


def _facts(node: Node, groups: Mapping[str, GroupPlan], problems: Problems, name: str) -> _Facts:
    found: dict[str, dict[str, FactWanted]] = {}
    newer: list[OnKernel] = []
    for key, value in _by_group(node, groups, problems, name, writtenexpect.FactValues):
        given = msgspec.convert(value.plain(), dict[str, FactWanted | writtenexpect.ByKernel])
        for fact in given:
            sayable.fact_values(value.at(fact), fact, problems)
        by_kernel = {fact: one for fact, one in given.items() if isinstance(one, writtenexpect.ByKernel)}
        for fact, one in by_kernel.items():
            newer += _since(value.at(fact), key, fact, one, problems)
        found[key] = {
            fact: one.before if isinstance(one, writtenexpect.ByKernel) else one
            for fact, one in given.items()
        }
        for fact in found[key]:
            giving = OpenDevice if fact == FactName.SECOND_OPEN else MeetFault
            if not any(isinstance(step, giving) for step in groups[key].workload):
                what = f"no step of group {key!r} gives the fact {fact!r}; {giving.op!r} does"
                problems.add(value.mark, what)
    return _Facts(found, tuple(newer))


def _since(
    node: Node, group: str, fact: str, one: writtenexpect.ByKernel, problems: Problems
) -> Iterator[OnKernel]:
    """What the fact is since each kernel that is named, the oldest first."""
    later, by_guest = one.since, one.guest_linux is not UNSET
    version = one.guest_linux if one.guest_linux is not UNSET else one.linux
    if version is UNSET or (by_guest and one.linux is not UNSET):
        problems.add(node.mark, f"{fact} needs 'linux' or 'guest-linux', and not both")
        return
    if not isinstance(later, writtenexpect.Later):
        yield OnKernel(group=group, fact=fact, since=version, wanted=later, by_guest=by_guest)
        return
    if by_guest:
        problems.add(node.at("since").mark, "since 'guest-linux' it is a value, or a list")
    elif version_of(later.linux) <= version_of(version):
        problems.add(node.at("since", "linux").mark, f"linux {later.linux} is not later than {version}")
    yield OnKernel(group=group, fact=fact, since=version, wanted=later.before)
    yield OnKernel(group=group, fact=fact, since=later.linux, wanted=later.since)


def _noticed(
    node: Node, groups: Mapping[str, GroupPlan], problems: Problems, name: str
) -> dict[str, Noticed]:
    found: dict[str, Noticed] = {}
    for key, value in _by_group(node, groups, problems, name, writtenexpect.Noticed):
        given = msgspec.convert(value.plain(), writtenexpect.Noticed)
        asked = {name: most for name, most in msgspec.structs.asdict(given).items() if most is not UNSET}
        found[key] = Noticed(**asked)
        workload = groups[key].workload
        if not asked:
            problems.add(value.mark, "noticed needs 'host', 'guest' or 'containers'")
        if not any(isinstance(step, MeetFault) for step in workload):
            problems.add(value.mark, f"no step of group {key!r} notices a fault; {MeetFault.op!r} does")
        if given.containers is not UNSET and not any(isinstance(step, Start) for step in workload):
            what = f"no step of group {key!r} leaves a container running; {Start.op!r} does"
            problems.add(value.at("containers").mark, what)
        sayable.times(value, groups[key], found[key], problems)
    return found


def _slowdown(
    node: Node, groups: Mapping[str, GroupPlan], problems: Problems, name: str
) -> dict[str, Slowdown]:
    found: dict[str, Slowdown] = {}
    for key, value in _by_group(node, groups, problems, name, writtenexpect.Slowdown):
        given = msgspec.convert(value.plain(), writtenexpect.Slowdown)
        low = 0 if given.min is UNSET else given.min
        high = None if given.max is UNSET else given.max
        worst = None if given.worst is UNSET else given.worst
        found[key] = Slowdown(against=given.against, bounds=Bounds(min=low, max=high), worst=worst)
        _comparable(value, groups[key], found[key], groups, problems)
    return found


def _comparable(
    node: Node, group: GroupPlan, wanted: Slowdown, groups: Mapping[str, GroupPlan], problems: Problems
) -> None:
    """There are bounds, and another group that does something of which both have a pace."""
    low, high = wanted.bounds.min, wanted.bounds.max
    if not low and high is None:
        problems.add(node.mark, "a slowdown needs 'min', 'max' or both")
    elif high is not None and low > high:
        problems.add(node.mark, f"slowdown: min {low} is more than max {high}")
    elif wanted.worst is not None and wanted.worst < (low if high is None else high):
        bound = f"min {low}" if high is None else f"max {high}"
        what = f"slowdown: worst {wanted.worst} is less than {bound}: the slowest is of the group"
        problems.add(node.at("worst").mark, what)
    others = {name: other for name, other in groups.items() if name != group.name}
    if wanted.against not in others:
        problems.unknown(node.at("against").mark, "group", wanted.against, others)
        return
    both = (group, others[wanted.against])
    if not any(all(any(isinstance(s, kind) for s in of.workload) for of in both) for kind in (Ping, BULK)):
        what = f"groups {group.name!r} and {wanted.against!r} have no step alike to be compared by"
        problems.add(node.at("against").mark, what, ("ping in both", "echo, send, receive or flood in both"))
