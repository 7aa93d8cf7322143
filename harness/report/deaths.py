"""The death matrix: what died × what each end was doing × what each end saw, from the run's traces alone."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from harness.model.expect import Word, version_of
from harness.model.factwords import CALLED, EARLY, RUNNING, SERVED
from harness.model.fault import FaultKind, While
from harness.model.link import Link
from harness.model.plan import GroupPlan, Initiated
from harness.model.steps import MeetFault, Start
from harness.model.trace import CONTAINERS_GONE, GUEST_NOTICED, What
from harness.report.results import CaseOutcome, Item, Results
from harness.report.words import seconds

DIED = {
    FaultKind.QEMU_KILL: "QEMU killed",
    FaultKind.QEMU_QUIT: "QEMU told to quit",
    FaultKind.GUEST_PANIC: "guest kernel panicked",
    FaultKind.GUEST_RESET: "guest reset",
    FaultKind.PAUSE: "VM stopped for a while",
    FaultKind.AGENT_KILL: "agent killed",
    FaultKind.SHIM_KILL: "shim killed",
    FaultKind.PROXY_KILL: "proxy killed",
    FaultKind.UNPLUG: "device unplugged",
    FaultKind.UNBIND: "guest's driver unbound",
    FaultKind.RESTORE: "VM moved to a restored copy",
}
"""Each fault in words."""

COLUMNS = ("host end was", "host end saw", "next send", "connection then", "a new one", "guest end saw")

ALIVE = "nothing"
"""What an end saw to which its connection looks alive."""

_GONE = "gone"
_NONE = "–"
_UNTOLD = "told nothing"


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """One client that met a fault, or was to. `cells` are what `COLUMNS` say; `seconds` None if it told
    nothing, and `guest` how its connection ended there, and when, None if nobody told.

    `spared`: the fault does nothing to its connection. `opened`: who opened that; of several clients that saw
    the same, perhaps both sides. `ended`: how it ended, in words, if it was not served, and is not one that
    the fault kills.
    """

    client: str
    victim: bool
    elsewhere: bool
    spared: bool
    opened: frozenset[Initiated]
    sees: str
    seconds: float | None
    guest: tuple[str, float | None]
    ended: str
    undisturbed: bool
    cells: tuple[str, ...]
    fits: bool

    @property
    def told(self) -> bool:
        """Whether it said what it saw of the fault."""
        return self.seconds is not None

    @property
    def disturbed_by(self) -> str:
        """What it saw that was not to happen to one that the fault has nothing to do with."""
        _, saw, _, then, fresh, _ = self.cells
        said = [saw]
        said += [f"then {then}"] if then != _NONE else []
        said += [f"a new one: {fresh}"] if fresh not in (SERVED, _NONE) else []
        return ", ".join([*said, *([self.ended] if self.told and self.ended else [])])


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """One fault on one link. `died`: which, in words; of several scenarios that have it there, with what ends
    were doing. `met`: all that were to meet it; none if nobody began. `others`: what else was disturbed, in
    words."""

    item: Item
    died: str
    kind: FaultKind
    kernel: str
    met: tuple[Met, ...]
    others: str

    @property
    def hit(self) -> tuple[Met, ...]:
        """Those on whose own connection the fault was to show."""
        return tuple(one for one in self.met if not one.victim and not one.spared)

    @property
    def shown(self) -> tuple[Met, ...]:
        """Those to show: of clients of a group that saw the same, whoever had connected, the last."""
        found: dict[tuple[object, ...], Met] = {}
        for one in self.met:
            same = (one.client.rpartition("/")[0], one.sees, one.cells[2:-1], one.guest[0])
            other = found.get(same, one)
            late = max(other, one, key=lambda met: met.seconds or 0)
            end = max(other.guest, one.guest, key=lambda guest: guest[1] or 0)
            found[same] = msgspec.structs.replace(
                late,
                opened=other.opened | one.opened,
                guest=end,
                cells=(*late.cells[:-1], _in_time(*end)),
                fits=other.fits and one.fits,
            )
        return tuple(found.values())


def deaths(results: Results) -> tuple[Death, ...]:
    """Every fault that the run did, in the order of `FaultKind`, and of each in the order of links."""
    found = [death for item in results.items if (death := _death(item))]
    kinds, links = list(FaultKind), list(Link)
    found.sort(key=lambda one: (kinds.index(one.kind), links.index(one.item.subject.link)))
    places = Counter(_place(one) for one in found)
    return tuple(_told_apart(one) if places[_place(one)] > 1 else one for one in found)


def _place(death: Death) -> tuple[FaultKind, Link, str]:
    return death.kind, death.item.subject.link, death.kernel


def _told_apart(death: Death) -> Death:
    """With what those were doing whom it hit."""
    hurt = [one for one in death.met if one.victim] or list(death.hit)
    doing = dict.fromkeys(one.cells[0] for one in hurt if While(one.cells[0]).has_connection)
    said = f"{death.died} while {' and '.join(doing)}" if doing else death.died
    return msgspec.structs.replace(death, died=said)


def kernels(found: Iterable[Death]) -> tuple[str, ...]:
    """Of the hosts of these, each once."""
    return tuple(dict.fromkeys(death.kernel for death in found))


def who(one: Met) -> str:
    """What its host end was doing, and if it is no ordinary one."""
    doing = one.cells[0]
    if doing == While.CONNECTING and Initiated.GUEST in one.opened:
        doing = "called by the guest"
    elif Initiated.GUEST in one.opened:
        doing += f", {'the guest' if len(one.opened) == 1 else 'either'} had connected"
    if one.victim:
        return f"{doing}, and is the one killed"
    return f"{doing}, to another VM" if one.elsewhere else doing


def _death(item: Item) -> Death | None:
    plan = item.plan
    if plan is None or plan.fault is None or item.outcome is CaseOutcome.NOT_RUN:
        return None
    met = tuple(
        _met(item, group, client, step)
        for group in plan.groups
        for step in group.workload
        if isinstance(step, MeetFault)
        for client in group.clients
    )
    if not item.trace and item.verdict is None:
        met = ()
    return Death(
        item=item,
        died=DIED[plan.fault.kind],
        kind=plan.fault.kind,
        kernel=_kernel(item),
        met=met,
        others=_others(item, plan.fault.kind, met),
    )


def _kernel(item: Item) -> str:
    """The host's, and the guest's where that is of another version."""
    if item.facts is None:
        return "unknown"
    host, guest = item.facts.host_kernel, item.facts.hello.kernel
    with contextlib.suppress(ValueError):  # a guest may say anything
        if version_of(host) == version_of(guest):
            return host
    return f"{host} (guest {guest})"


def _met(item: Item, group: GroupPlan, client: str, step: MeetFault) -> Met:
    assert item.plan is not None
    assert item.plan.fault is not None
    own = [event for event in item.trace if event.client == client]
    facts = {
        name: str(value) for event in own if event.what is What.FACT for name, value in event.detail.items()
    }
    noticed = next((event.detail for event in own if event.what is What.NOTICED), None)
    after = float(noticed.get("seconds") or 0) if noticed else None
    victim = item.plan.fault.kills(group.name)
    ended = "" if victim else _ended(item, client)
    sees = facts.get("sees", _NONE if victim or noticed else ended or _UNTOLD)
    guest = (facts.get("guest", _NONE), float(facts[GUEST_NOTICED]) if GUEST_NOTICED in facts else None)
    soon = item.verdict is None or all(one.fits for one in item.verdict.noticed if one.client == client)
    expect = item.plan.expect
    known = {*expect.facts.get(group.name, {}), *facts}
    told = [facts[name] for name in ("then", "reconnect") if name in facts]
    opener = group.opener(group.clients.index(client))
    called = step.doing is While.CONNECTING and opener is Initiated.GUEST
    return Met(
        client=client,
        victim=victim,
        elsewhere=group.elsewhere,
        spared=item.plan.fault.spares(group.name, elsewhere=group.elsewhere),
        opened=frozenset({opener}),
        sees=sees,
        seconds=after,
        guest=guest,
        ended=ended,
        undisturbed=sees == (CALLED if called else ALIVE) and set(told) == {SERVED} and not ended,
        cells=(
            step.doing.value,
            _in_time(sees, after),
            *(facts.get(name, _NONE) for name in ("next-send", "then", "reconnect")),
            _in_time(*guest),
        ),
        fits=soon
        and (noticed is not None or victim or item.verdict is None or item.verdict.passed)
        and all(expect.fits(group.name, name, facts.get(name)) for name in known),
    )


def _ended(item: Item, client: str) -> str:
    """``lost (vanished: …)``; empty of who was served, or if nobody judged it."""
    ends = item.verdict.ends if item.verdict else ()
    end = next((end for end in ends if end.client == client and end.end is not Word.SERVED), None)
    if end is None:
        return ""
    return end.why if end.why.startswith((end.end, f"was {end.end}")) else f"{end.end} ({end.why})"


def _in_time(saw: str, after: float | None) -> str:
    """``ECONNRESET after 0.03 s``; ``0.40 s before`` the fault was done, which had begun; of who saw nothing,
    for how long."""
    if after is None:
        return saw
    if after < 0:
        return f"{saw.removesuffix(EARLY)} {seconds(-after)} before"
    return f"{saw} {'in' if saw == ALIVE else 'after'} {seconds(after)}"


def _others(item: Item, kind: FaultKind, met: Sequence[Met]) -> str:
    """What was disturbed of those who had nothing to do with it, and what became of containers."""
    beside = [one for one in met if one.spared]
    hurt = [f"{one.client}: {one.disturbed_by}" for one in beside if not one.undisturbed]
    where = "another VM" if all(one.elsewhere for one in beside) else "the same VM"
    said = [] if beside else ["nobody looked"]
    if beside:
        said = hurt or [f"nothing ({len(beside)} client{'s' if len(beside) > 1 else ''} of {where})"]
    if left := _left(item, kind):
        said.append(left)
    return "; ".join(said)


def _left(item: Item, kind: FaultKind) -> str:
    """What the agent said of the containers that the fault should end: how long after it the last one was
    reaped, by its own clock; else how many are left. Empty if clients had started none, or nobody asked."""
    assert item.plan is not None
    fault = item.plan.fault
    assert fault is not None
    shim = kind is FaultKind.SHIM_KILL
    started = [
        (group, sum(isinstance(step, Start) for step in group.workload))
        for group in item.plan.groups
        if not group.elsewhere
    ]
    hit = [(group, count) for group, count in started if fault.kills(group.name) or not shim]
    ending = {client for group, count in hit if count for client in group.clients}
    told = [event for event in item.trace if event.what is What.FACT and event.client in ending]
    gone = {e.client: float(e.detail[CONTAINERS_GONE] or 0) for e in told if CONTAINERS_GONE in e.detail}
    one, several = "the dead shim's container is", "the dead shims' containers are"
    whose = "the containers are" if not shim else one if len(ending) == 1 else several
    count = next((str(event.detail["containers"]) for event in told if "containers" in event.detail), "")
    if ending and gone.keys() == ending and (shim or count == _GONE):
        return f"{whose} gone after {seconds(max(gone.values()))}"
    if count == _GONE:
        return f"{whose} gone"
    others = sum(each * group.count for group, each in started if (group, each) not in hit)
    if shim and (on := _number(count) - others) > 0:
        return _run_on(on, len(ending))
    return f"containers: {count}" if count else ""


def _run_on(count: int, of: int) -> str:
    if of == 1:
        return "the dead shim's container runs on"
    return f"{count} of the dead shims' containers run{'s' if count == 1 else ''} on"


def _number(containers: str) -> int:
    """Of ``2 running``; 0 where that is not what is said."""
    return int(containers.split()[0]) if re.fullmatch(RUNNING, containers) else 0
