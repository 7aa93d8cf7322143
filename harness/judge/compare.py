"""Holds clients' ends against an expectation; each difference in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.judge.ends import ends_of
from harness.judge.killed import not_killed
from harness.judge.notices import noticed
from harness.judge.paces import slowed
from harness.model.errors import InfrastructureError
from harness.model.expect import Bounds, Word, in_words
from harness.model.plan import Plan
from harness.model.trace import Event
from harness.model.verdict import ClientEnd, Outcome, Slowed, Tally, Verdict


def judge(plan: Plan, trace: Sequence[Event]) -> Verdict:
    """What `trace` shows, against what `plan` expects. Pure: the same arguments give an equal verdict.

    :raise InfrastructureError: the trace has events of a client or a step that the plan does not have, so it
        is not this plan's.
    """
    _belongs(plan, trace)
    ends = ends_of(plan, trace)
    by_name = {end.client: end for end in ends}
    expect = plan.expect
    groups = tuple(
        _tally(
            group.name, [by_name[client] for client in group.clients], (expect.groups or {}).get(group.name)
        )
        for group in plan.groups
    )
    total = _tally("", ends, expect.totals)
    differences: list[str] = []
    for tally in (total, *groups):
        of = [end for end in ends if not tally.name or end.client.rpartition("/")[0] == tally.name]
        differences += (f"{plan.link}: {text}" for text in _count_differences(tally, of))
    differences += (f"{plan.link}: {text}" for text in not_killed(plan, trace, ends))
    differences += (f"{plan.link}: {text}" for text in _fact_differences(plan, by_name))
    notices = noticed(plan, trace)
    differences += (f"{plan.link}: {one}, expected {one.expected}" for one in notices if not one.fits)
    slow = slowed(plan, trace)
    differences += (f"{plan.link}: {text}" for text in _slow_differences(slow))
    return Verdict(
        scenario=plan.scenario,
        claim=plan.claim,
        link=plan.link,
        outcome=Outcome.FAILED if differences else Outcome.PASSED,
        total=total,
        groups=groups,
        differences=tuple(differences),
        ends=ends,
        noticed=notices,
        slowed=slow,
    )


def _belongs(plan: Plan, trace: Sequence[Event]) -> None:
    steps = {client: len(group.workload) for group in plan.groups for client in group.clients}
    for event in trace:
        if event.step >= steps.get(event.client, -1):
            raise InfrastructureError(
                f"the trace has an event of {event.client}, step {event.step}, which the plan of "
                f"{plan.scenario} on {plan.link} does not have",
                hint="judge a trace by the plan that it was made with",
            )


def _tally(name: str, ends: Sequence[ClientEnd], expected: dict[Word, Bounds] | None) -> Tally:
    seen = {word: sum(end.is_(word) for end in ends) for word in Word}
    return Tally(name=name, clients=len(ends), seen=seen, expected=expected)


def _count_differences(tally: Tally, ends: Sequence[ClientEnd]) -> Iterator[str]:
    """Each word whose count is not as expected. The first comes with the client that shows it first."""
    if tally.expected is None:
        return
    expected = dict(tally.expected)
    served = tally.seen[Word.SERVED]
    expected.setdefault(Word.INTACT, Bounds(min=served, max=served))
    differing = [word for word in Word if word in expected and tally.seen[word] not in expected[word]]
    if Word.SERVED in differing and Word.INTACT in differing and tally.seen[Word.INTACT] == served:
        differing.remove(Word.INTACT)  # the same said twice
    of = f"group {tally.name}: " if tally.name else ""
    for place, word in enumerate(differing):
        text = f"{of}{word} {tally.seen[word]} of {tally.clients}, expected {expected[word]}"
        yield f"{text}; first: {_first(ends, expected, differing)}" if place == 0 else text


def _first(ends: Sequence[ClientEnd], expected: dict[Word, Bounds], differing: list[Word]) -> str:
    """The earliest client that ended as none, or as no more, should have."""
    beyond: list[ClientEnd] = []
    for word in differing:
        most = expected[word].max
        such = sorted((end for end in ends if end.is_(word)), key=lambda end: end.at)
        beyond += such[most:] if most is not None else []
    if not beyond:
        beyond = [end for end in ends if not any(end.is_(word) for word in differing)]
    if not beyond:
        beyond = list(ends)
    first = min(beyond, key=lambda end: end.at)
    return f"{first.client} {first.why}"


def _fact_differences(plan: Plan, ends: dict[str, ClientEnd]) -> Iterator[str]:
    """Each served client must have reported each expected fact so, and at least one client must have."""
    for group in plan.groups:
        for name, wanted in plan.expect.facts.get(group.name, {}).items():
            told = 0
            for client in group.clients:
                seen = ends[client].facts.get(name)
                told += seen is not None
                fits = plan.expect.fits(group.name, name, seen)
                if not fits and (seen is not None or ends[client].end is Word.SERVED):
                    yield f"fact {name} of {client} is {seen or 'not reported'}, expected {in_words(wanted)}"
            if not told:
                yield f"fact {name} of group {group.name}: nobody reported it, expected {in_words(wanted)}"
        for client in group.clients:
            for name, seen in ends[client].facts.items():
                unnamed = name not in plan.expect.facts.get(group.name, {})
                if unnamed and not plan.expect.fits(group.name, name, seen):
                    yield f"fact {name} of {client} is {seen}, which is not expected"


def _slow_differences(slow: Sequence[Slowed]) -> Iterator[str]:
    for one in slow:
        if not one.fits:
            because = "; ".join(filter(None, [one.why or one.by, one.slowest and f"slowest: {one.slowest}"]))
            yield f"slowdown: {one}, expected {one.asked}; {because}"
