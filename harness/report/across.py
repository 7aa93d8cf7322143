"""Several runs side by side: what was not the same on all the kernels that they ran on, as Markdown.

What is called a kernel here is the host's; where runs had guests with several, it is a pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from harness.model.errors import UsageError
from harness.model.expect import FactWanted, is_right, version_of
from harness.model.fault import FaultKind
from harness.model.steps import Connect
from harness.model.trace import TIMES, What
from harness.report.deaths import DIED
from harness.report.results import CaseOutcome, Item, Results, counted
from harness.report.words import stated

OUTCOME = "outcome"
"""In the place of a group's name, for what is said of the whole scenario."""

_JUDGED = (CaseOutcome.PASSED, CaseOutcome.FAILED)


class Told(msgspec.Struct, frozen=True):
    """A fact of one group on one kernel: each value that was seen in any run there, and what was `wanted`.

    `wanted` is None where the scenario leaves it open.
    """

    values: frozenset[str]
    wanted: FactWanted | None

    def allows(self, fact: str, other: Told) -> bool:
        """Whether what was seen on the other kernel of this fact would have been right here."""
        return all(is_right(fact, value, self.wanted) for value in other.values)

    def __str__(self) -> str:
        return " or ".join(sorted(self.values))


class Fact(msgspec.Struct, frozen=True):
    """What a group was asked for, with what was told on each kernel."""

    name: str
    told: dict[str, Told]

    @property
    def same(self) -> bool:
        """Whether the same was seen on each kernel that could run it."""
        return len({one.values for one in self.told.values()}) < 2

    @property
    def open(self) -> bool:
        """Whether what each kernel showed would have been right on each other."""
        found = self.told.values()
        return all(one.allows(self.name, other) for one in found for other in found)


class Group(msgspec.Struct, frozen=True):
    """Clients of one group of a scenario on a link, or all of them (`OUTCOME`). `of` names the two."""

    of: str
    name: str
    facts: tuple[Fact, ...]


class Ran(msgspec.Struct, frozen=True):
    """What ran on one kernel: its full releases, those of guests, QEMU's versions, how tests ended."""

    hosts: frozenset[str]
    guests: frozenset[str]
    qemus: frozenset[str]
    runs: int
    ended: str


class Across(msgspec.Struct, frozen=True):
    """Runs on several kernels. `ran` is by kernel (``6.12``, ``6.12, guest 7.2``), oldest first."""

    ran: dict[str, Ran]
    groups: tuple[Group, ...]


def across(runs: Sequence[Results]) -> Across:
    """The runs compared; those on the same kernel are one column.

    :raise UsageError: they ran on one kernel only, or it is not known on which.
    """
    pairs = [(*_kernels(run), run) for run in runs]
    several = len({guest for _, guest, _ in pairs}) > 1
    by_kernel = dict[str, list[Results]]()
    for host, guest, run in sorted(pairs, key=lambda pair: (version_of(pair[0]), version_of(pair[1]))):
        by_kernel.setdefault(f"{host}, guest {guest}" if several else host, []).append(run)
    kernels = list(by_kernel)
    if len(kernels) < 2:
        raise UsageError(f"all of these ran on Linux {kernels[0]}: there is nothing to compare")
    found = dict[tuple[str, str], dict[str, dict[str, Told]]]()
    for kernel in kernels:
        for of, group, fact, told in (told for run in by_kernel[kernel] for told in _all_told(run)):
            here = found.setdefault((of, group), {}).setdefault(fact, {})
            here[kernel] = both(here.get(kernel), told)
    names = _names(runs)
    groups = [
        Group(names.get(of, of), group, tuple(Fact(name, told) for name, told in facts.items()))
        for (of, group), facts in sorted(found.items(), key=lambda pair: [*names].index(pair[0][0]))
    ]
    return Across({kernel: _ran(by_kernel[kernel]) for kernel in kernels}, tuple(groups))


def markdown(found: Across) -> str:
    """What ran, what differs, what may differ on each kernel from run to run, and the names of the rest."""
    lines = [*_heads("Linux", "runs", "tests", "host", "guest", "QEMU")]
    for kernel, ran in found.ran.items():
        lines.append(_row(kernel, str(ran.runs), ran.ended, *map(_all, (ran.hosts, ran.guests, ran.qemus))))
    lines += ["", "## What differs between kernels", ""]
    lines += _table(found, [_only(group, differs=True) for group in found.groups]) or ["Nothing.", ""]
    if more := _table(found, [_only(group, differs=False) for group in found.groups]):
        lines += ["## What scenarios leave open, and was not seen the same on all", "", *more]
    lines += ["## The same on all", "", *(f"* {name}" for name in _alike(found)), ""]
    if rest := _elsewhere(found):
        lines += ["## Not run on all", "", *(f"* {name}" for name in rest), ""]
    return "\n".join(lines)


def _only(group: Group, *, differs: bool) -> Group:
    kept = tuple(fact for fact in group.facts if not fact.same and fact.open is not differs)
    return msgspec.structs.replace(group, facts=kept)


def _table(found: Across, groups: Iterable[Group]) -> list[str]:
    """A row for groups of a scenario that saw the same; nothing where no group has a fact."""
    rows: list[str] = []
    for of, members in groupby(groups, key=lambda one: one.of):
        names = dict[tuple[str, ...], list[str]]()
        for group in (group for group in members if group.facts):
            names.setdefault(tuple(_cell(group, kernel) for kernel in found.ran), []).append(group.name)
        for place, (cells, who) in enumerate(names.items()):
            rows.append(_row(of if place == 0 else "", ", ".join(who), *cells))
    return (
        [*_heads("what died, or the scenario", "host end was, or group", *found.ran), *rows, ""]
        if rows
        else []
    )


def _cell(group: Group, kernel: str) -> str:
    return (
        ", ".join(f"{one.name} {one.told[kernel]}".strip() for one in group.facts if kernel in one.told)
        or "·"
    )


def _alike(found: Across) -> Iterator[str]:
    rest = _elsewhere(found)
    for of, members in groupby(found.groups, key=lambda one: one.of):
        if of not in rest and all(fact.same for group in members for fact in group.facts):
            yield of


def _elsewhere(found: Across) -> list[str]:
    """What some of the runs left out."""
    outcomes = ((group.of, group.facts[0]) for group in found.groups if group.name == OUTCOME)
    return [of for of, outcome in outcomes if outcome.told.keys() != found.ran.keys()]


def _heads(*names: str) -> list[str]:
    return [_row(*names), _row(*["---"] * len(names))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _all(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _kernels(run: Results) -> tuple[str, str]:
    """The versions of the host's kernel and the guest's.

    :raise UsageError: it had several, or they are not known.
    """
    facts = [item.facts for item in run.items if item.facts]
    found = {(_version(one.host_kernel), _version(one.hello.kernel)) for one in facts}
    if len(found) != 1:
        seen = "several: " + "; ".join(map(" with guest ".join, sorted(found))) if found else "not known"
        raise UsageError(f"{run.name}: the kernel that it ran on is {seen}")
    return found.pop()


def _version(release: str) -> str:
    return ".".join(map(str, version_of(release)))


def _ran(runs: Sequence[Results]) -> Ran:
    known = [item.facts for run in runs for item in run.items if item.facts]
    return Ran(
        hosts=frozenset(one.host_kernel for one in known),
        guests=frozenset(one.hello.kernel for one in known),
        qemus=frozenset(one.qemu for one in known),
        runs=len(runs),
        ended=stated(counted(case for run in runs for case in run.cases)),
    )


def _names(runs: Sequence[Results]) -> dict[str, str]:
    """Each scenario on a link, in words: the fault where there is one. Those come first, in faults' order.

    Where a fault has several scenarios on a link, the scenario's name as well.
    """
    plain = dict[str, str]()
    faults = dict[str, FaultKind]()
    for run in runs:
        for item in run.items:
            key, link = _key(item), item.subject.link
            plain.setdefault(key, f"{item.subject.scenario} ({link})")
            if item.plan and item.plan.fault:  # one that was skipped on another kernel has no plan there
                faults[key] = item.plan.fault.kind
        plain |= {case.name: case.name for case in run.others}
    order = [*FaultKind]
    links = {key: (kind, plain[key].rpartition(" ")[2]) for key, kind in faults.items()}
    several = {pair for pair, count in Counter(links.values()).items() if count > 1}
    died = {
        key: f"{DIED[kind]} {link}"
        + (f": {plain[key].rpartition(' ')[0]}" if (kind, link) in several else "")
        for key, (kind, link) in links.items()
    }
    return {key: died[key] for key in sorted(died, key=lambda one: order.index(faults[one]))} | {
        key: name for key, name in plain.items() if key not in died
    }


def _key(item: Item) -> str:
    return f"{item.subject.scenario}-{item.subject.link}"


def _all_told(run: Results) -> Iterator[tuple[str, str, str, Told]]:
    """Scenario and link, group, fact, and what was told of it."""
    for item in run.items:
        yield _key(item), OUTCOME, "", _outcome(item.outcome)
        for group, fact, told in facts(item):
            yield _key(item), group, fact, told
    for case in run.others:
        yield case.name, OUTCOME, "", _outcome(case.outcome)


def _outcome(outcome: CaseOutcome) -> Told:
    return Told(frozenset({outcome.value}), outcome.value)


def facts(item: Item) -> Iterator[tuple[str, str, Told]]:
    """Group, fact and what one client told of it: facts, named or not, and refusals that were asked for."""
    if item.verdict is None or item.plan is None or item.outcome not in _JUDGED:
        return
    for end in item.verdict.ends:
        group = end.client.rpartition("/")[0]
        wanted = item.plan.expect.facts.get(group, {})
        for name, value in end.facts.items():
            if name in TIMES:
                continue
            yield group, name, Told(frozenset({value}), wanted.get(name))
    steps = {group.name: group.workload for group in item.plan.groups}
    for event in item.trace:
        if event.what is What.ANSWERED and event.op == Connect.op:
            group = event.client.rpartition("/")[0]
            step = steps[group][event.step]
            if isinstance(step, Connect) and step.fails:
                seen = frozenset({str(event.detail.get("seen"))})
                yield group, f"connect to {step.to}", Told(seen, step.fails)


def both(one: Told | None, other: Told) -> Told:
    """What was told by either client or run."""
    return other if one is None else Told(one.values | other.values, other.wanted)
