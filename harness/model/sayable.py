"""Expectations that could never be met, or never fail: what is found in each is noted in `problems`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.model.document import Node, Problems, nearest
from harness.model.expect import ENDS, Counts, Noticed
from harness.model.factwords import EARLY, RUNNING, WORDS, FactName
from harness.model.plan import GroupPlan
from harness.model.steps import MeetFault
from harness.model.values import ERRNOS

ASKED = 9.0
"""Seconds of a plain machine for which the guest's agent is asked how a connection ended."""


def fact_values(node: Node, fact: str, problems: Problems) -> None:
    """Each value of `fact`, alone, in a list, or of some kernel, is one that the fact can have."""
    words = WORDS[FactName(fact)]
    counted = fact == FactName.CONTAINERS
    for one in _leaves(node):
        value = str(one.value)
        if fact == FactName.SEES:
            value = value.removesuffix(EARLY)
        if value in words or (re.fullmatch(RUNNING, value) if counted else value in ERRNOS):
            continue
        other = "a number as '2 running'" if counted else "an errno's name such as EPIPE"
        guess = nearest(value, words if counted else (*words, *ERRNOS))
        problems.add(one.mark, f"{fact} is never {value!r}", (*words, other), guess=guess)


def _leaves(node: Node) -> Iterator[Node]:
    match node.value:
        case dict() as table:
            for key, value in table.items():
                if key not in ("linux", "guest-linux"):
                    yield from _leaves(value)
        case list() as items:
            yield from items
        case _:
            yield node


def counts(node: Node, wanted: Counts, clients: int, problems: Problems, name: str) -> None:
    """There is an end that not every client may have."""
    if all(0 in wanted[word] and clients in wanted[word] for word in ENDS):
        problems.add(node.mark, f"{name} allows every end to every client: nothing would ever be red")


def times(node: Node, group: GroupPlan, wanted: Noticed, problems: Problems) -> None:
    """A bound beyond the time for which anybody looks would never be passed."""
    looks = max((step.within for step in group.workload if isinstance(step, MeetFault)), default=0)
    for end, most in wanted.bounds.items():
        longest = looks if end == "host" else looks + ASKED
        if looks and most > longest:
            what = f"{end}: {most:g} s could never be exceeded: after {longest:g} s nobody looks any more"
            problems.add(node.at(end).mark, what)
