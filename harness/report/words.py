"""How a report says things: outcomes, times, sizes, what was expected and what was seen."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from harness.model.expect import ENDS, Bounds, Expectation, Word, in_words
from harness.model.fault import While
from harness.model.plan import GroupPlan, Initiated, Plan, Schedule
from harness.model.steps import MeetFault, Step
from harness.model.verdict import CONTAINERS, NEVER_GONE, Noticing, Tally, Verdict
from harness.report.results import CaseOutcome

SIGNS = {
    CaseOutcome.PASSED: "✓",
    CaseOutcome.FAILED: "✗",
    CaseOutcome.ERROR: "!",
    CaseOutcome.SKIPPED: "»",
    CaseOutcome.NOT_RUN: "○",
}
"""Beside the word or in its place, so that no colour is needed."""

NO_LINK = "no link"
"""Heads the column of tests that are about none."""

WORST_FIRST = (
    CaseOutcome.FAILED,
    CaseOutcome.ERROR,
    CaseOutcome.NOT_RUN,
    CaseOutcome.SKIPPED,
    CaseOutcome.PASSED,
)


class Count(msgspec.Struct, frozen=True):
    """A number of something, or a fact, and whether it is as expected. `measured`: never twice the same."""

    text: str
    fits: bool = True
    measured: bool = False


class Part(msgspec.Struct, frozen=True):
    """What was counted of one group, or of all clients if `name` is empty."""

    name: str
    counts: tuple[Count, ...]


def worst(outcomes: Iterable[CaseOutcome]) -> CaseOutcome:
    """The one to look at first; of none, that it did not run."""
    return min(outcomes, key=WORST_FIRST.index, default=CaseOutcome.NOT_RUN)


def stated(counts: dict[CaseOutcome, int]) -> str:
    """``1 failed, 29 passed``; what is zero is left out."""
    return ", ".join(number(counts[word], word) for word in WORST_FIRST if counts[word]) or "no tests"


def number(count: int, outcome: CaseOutcome) -> str:
    """``2 failed``, ``2 errors``."""
    return f"{count} {outcome}" + ("s" if outcome is CaseOutcome.ERROR and count != 1 else "")


def seconds(value: float) -> str:
    """With three digits, minutes from two on: ``0.04 s``, ``14.4 s``, ``2 min 25 s``."""
    if value >= 120:
        whole = round(value)
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"


def size(count: int) -> str:
    """Bytes: ``512 B``, ``64 KiB``, ``1.5 MiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} B"


def cut(text: str, most: int) -> str:
    """`text`, of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 2]} …"


def expected(plan: Plan | None, verdict: Verdict) -> list[str]:
    """What the scenario states of this link, by group; facts, noticings and slowdowns last."""
    facts = plan.expect.facts if plan else {}
    slow = [f"{one.group} {one.asked} as slow as {one.against}" for one in verdict.slowed]
    told = [
        _of(group, facts) + ", ".join(f"{name} {in_words(value)}" for name, value in wanted.items())
        for group, wanted in facts.items()
    ]
    return [*verdict.expected.split("; "), *told, *_soon(verdict.noticed), *slow]


def _soon(noticed: Iterable[Noticing]) -> Iterator[str]:
    """``idle, sending: the host's end notices within 0.2 s × 8.5``, once for each bound and end."""
    groups: dict[str, dict[str, None]] = {}
    for one in noticed:
        what = "its containers are gone" if one.end == CONTAINERS else f"the {one.end}'s end notices"
        said = f"{what} {one.expected}"
        groups.setdefault(said, {})[one.client.rpartition("/")[0]] = None
    yield from (f"{', '.join(names)}: {said}" for said, names in groups.items())


def seen(plan: Plan | None, verdict: Verdict, brief: bool = False) -> list[Part]:
    """What was counted, in the terms of what is expected; facts, noticings and slowdowns last.

    `brief` leaves out what goes without saying, that all who were served are intact, and zeros; slowdowns
    come first. Of a fault it says what is not as expected, or in a word what the host's ends saw.
    """
    counted = tallied(verdict, brief)
    known = [*_facts(plan, verdict), *_times(verdict.noticed)]
    slow = (
        [Part("", tuple(Count(str(one), one.fits, measured=True) for one in verdict.slowed))]
        if verdict.slowed
        else []
    )
    if not brief:
        return [*counted, *known, *slow]
    if plan and plan.fault and (saw := _saw(plan, verdict)):
        unfit = [
            Part(part.name, tuple(count for count in part.counts if not count.fits))
            for part in (*counted, *known)
        ]
        return [part for part in unfit if part.counts] or [Part("", (Count(saw),))]
    return [*slow, *counted, *known]


def tallied(verdict: Verdict, brief: bool = False) -> list[Part]:
    """How many clients ended how, by group where that is what is expected."""
    tallies = verdict.groups if verdict.total.expected is None else (verdict.total,)
    return [Part(tally.name, tuple(_tallied(tally, brief))) for tally in tallies]


def _listens(group: GroupPlan) -> bool:
    """Whether its clients only wait for the guest to connect to them."""
    doings = {step.doing for step in group.workload if isinstance(step, MeetFault)}
    called = group.initiated is Initiated.GUEST and While.CONNECTING in doings
    return called or While.LISTENING in doings


def _saw(plan: Plan, verdict: Verdict) -> str:
    """What a fault did to those it was to meet, in a word each; empty if they did not say.

    A port that only listens is no part of any VM: that it hears nothing goes without saying.
    """
    victims = [group for group in plan.groups if plan.fault and plan.fault.kills(group.name)]
    met = [group for group in plan.groups if not group.elsewhere and group not in victims]
    groups = {group.name for group in met if not _listens(group)}
    found = (end.facts.get("sees") for end in verdict.ends if end.client.rpartition("/")[0] in groups)
    words = dict.fromkeys(word for word in found if word)
    return f"host ends saw {', '.join(words)}" if words else ""


def plain(parts: Iterable[Part]) -> str:
    """As one line: ``one: served 1; others: ≠ served 3, ≠ lost 1``."""
    lines = (
        (f"{part.name}: " if part.name else "")
        + ", ".join(count.text if count.fits else f"≠ {count.text}" for count in part.counts)
        for part in parts
    )
    return "; ".join(lines)


def _tallied(tally: Tally, brief: bool) -> Iterator[Count]:
    """Each word that is not zero, or that is expected in some number, or should be zero and is not."""
    served = tally.seen[Word.SERVED]
    wanted = {Word.INTACT: Bounds(min=served, max=served), **(tally.expected or {})}
    for word in Word:
        count, bounds = tally.seen[word], wanted.get(word)
        fits = bounds is None or count in bounds
        if brief and fits and (not count or (word is Word.INTACT and count == served)):
            continue
        stated = (
            bounds is not None and word in (tally.expected or {}) and (bounds.max != 0 or word not in ENDS)
        )
        if count or stated or not fits:
            yield Count(f"{word} {count}", fits)


def _facts(plan: Plan | None, verdict: Verdict) -> Iterator[Part]:
    """Of each group that is expected to tell some, or told what is right only where it is expected; where it
    is the only one it goes without its name."""
    expect = plan.expect if plan else Expectation()
    names = {group: dict.fromkeys(wanted) for group, wanted in expect.facts.items()}
    told: dict[str, list[dict[str, str]]] = {}
    for end in verdict.ends:
        group = end.client.rpartition("/")[0]
        told.setdefault(group, []).append(end.facts)
        for name, seen in end.facts.items():
            if not expect.fits(group, name, seen):
                names.setdefault(group, {})[name] = None
    for group, facts in names.items():
        counts = []
        for name in facts:
            values = dict.fromkeys(found[name] for found in told.get(group, ()) if name in found)
            fits = bool(values) and all(expect.fits(group, name, seen) for seen in values)
            counts.append(Count(f"{name} {' and '.join(values) or 'not reported'}", fits))
        yield Part(group if len(names) > 1 else "", tuple(counts))


def _times(noticed: Sequence[Noticing]) -> Iterator[Part]:
    """Of each group, at each end, the latest, whoever did not notice first."""
    groups: dict[str, dict[str, list[Noticing]]] = {}
    for one in noticed:
        groups.setdefault(one.client.rpartition("/")[0], {}).setdefault(one.end, []).append(one)
    for group, ends in groups.items():
        yield Part(group, tuple(_latest(end, ones) for end, ones in ends.items()))


def _latest(end: str, ones: Sequence[Noticing]) -> Count:
    late = max(ones, key=lambda one: math.inf if one.seconds is None else one.seconds)
    after = "" if late.seconds is None else f" after {seconds(late.seconds)}"
    if end == CONTAINERS:
        said = f"its containers {f'were gone{after}' if after else NEVER_GONE}"
    else:
        said = f"the {end}'s end {f'noticed{after}' if after else 'did not notice'}"
    return Count(said, late.fits, measured=True)


def _of(group: str, groups: Collection[str]) -> str:
    return f"{group}: " if len(groups) > 1 else ""


def workload(plan: Plan) -> str:
    """Who does what, in one line: ``8 × client: echo 1 MiB``."""
    groups = "; ".join(_group(group) for group in plan.groups)
    more = [
        word
        for word in (plan.schedule, f"{plan.boot} boot")
        if word not in (Schedule.CONCURRENT, "clone boot")
    ]
    more += ["drained"] if plan.drain else []
    more += [f"fault: {plan.fault.kind}"] if plan.fault else []
    return f"{groups} ({', '.join(more)})" if more else groups


def _group(group: GroupPlan) -> str:
    steps = ", ".join(_step(step) for step in group.workload)
    after = f" after {group.after}" if group.after else ""
    shared = " on one connection" if group.connection == "shared" and group.count > 1 else ""
    return f"{group.count} × {group.name}{after}{shared}: {steps}"


def _step(step: Step) -> str:
    """The step's word and its figures; words and arguments of containers are left to the plan."""
    given = msgspec.structs.asdict(step)
    parts = [step.op]
    parts += [size(given["bytes"])] if "bytes" in given else []
    parts += [str(given[name]) for name in ("name", "running", "group", "event") if name in given]
    parts += [f"({given[name]})" for name in ("way", "doing") if name in given]
    parts += [f"by {size(given['piece'])}"] if given.get("piece") else []
    parts += [f"× {given['times']}"] if given.get("times", 1) > 1 else []
    return " ".join(parts)
