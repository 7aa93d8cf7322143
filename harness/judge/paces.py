"""How fast each group was, from the trace alone: round trips, and bytes a second."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from harness.judge.floods import is_through, unloaded
from harness.model.expect import Slowdown
from harness.model.plan import GroupPlan, Plan
from harness.model.steps import BULK, Flood, Way
from harness.model.trace import Event, What
from harness.model.trips import quantile
from harness.model.verdict import Slowed

_CLOCK = 1e-6
"""Seconds in which round trips are told; one of less would be no base to compare with."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the clients of `group` were.

    `trips`: what their round trips took, all of them sorted, in seconds. `rates`: of each step that moved
    bytes, how many a second, in one direction. `begun` and `over`: the first asking and the last answer of
    these steps, on the trace's clock; a flood is over at the last thing that is known of it.
    """

    group: str
    trips: tuple[float, ...]
    rates: tuple[float, ...]
    begun: float
    over: float

    @property
    def median(self) -> float:
        """Of the round trips, in seconds.

        :raise ValueError: there were none.
        """
        return quantile(self.trips, 0.5)

    @property
    def rate(self) -> float:
        """The median client's bytes a second.

        :raise ValueError: none moved any.
        """
        if not self.rates:
            raise ValueError("no bytes moved, so no rate")
        return statistics.median(self.rates)


def paces(plan: Plan, trace: Sequence[Event]) -> tuple[Pace, ...]:
    """Of each group that made round trips or moved bytes, in the plan's order."""
    by_client: dict[str, list[Event]] = {}
    for event in trace:
        by_client.setdefault(event.client, []).append(event)
    found = (_pace(group, [by_client.get(client, []) for client in group.clients]) for group in plan.groups)
    return tuple(pace for pace in found if pace.trips or pace.rates)


def slowed(plan: Plan, trace: Sequence[Event]) -> tuple[Slowed, ...]:
    """Each slowdown that `plan` expects, as `trace` has it."""
    known = {pace.group: pace for pace in paces(plan, trace)}
    found = []
    for name, wanted in plan.expect.slowdown.items():
        one = _slowed(plan, trace, name, known)
        found.append(one if wanted.worst is None else _with_worst(one, wanted, plan, trace, known))
    return tuple(found)


def _with_worst(
    one: Slowed, wanted: Slowdown, plan: Plan, trace: Sequence[Event], known: dict[str, Pace]
) -> Slowed:
    """The same, and its slowest client, by its own median or rate. One that has none was never
    answered, which is red already."""
    group = next(group for group in plan.groups if group.name == one.group)
    base = known.get(wanted.against)
    worst: tuple[float, str] | None = None
    for client in group.clients if base else ():
        own = _pace(group, [[event for event in trace if event.client == client]])
        if (times := _times(base, own)) is not None:
            worst = max(worst or (times, client), (times, client))
    times, client = worst or (None, "")
    return msgspec.structs.replace(one, most=wanted.worst, worst=times, slowest=client)


def _times(base: Pace | None, loaded: Pace | None) -> float | None:
    """How many times slower; None where nothing alike is known of both."""
    if base and loaded and base.trips and loaded.trips:
        return loaded.median / max(base.median, _CLOCK)
    if base and loaded and base.rates and loaded.rates:
        return base.rate / loaded.rate
    return None


def _slowed(plan: Plan, trace: Sequence[Event], name: str, known: dict[str, Pace]) -> Slowed:
    wanted = plan.expect.slowdown[name]
    base, loaded = known.get(wanted.against), known.get(name)
    times = _times(base, loaded)
    by = why = ""
    if base and loaded and base.trips and loaded.trips:
        by = f"median round trip {_ms(base.median)}, then {_ms(loaded.median)}"
    elif base and loaded and base.rates and loaded.rates:
        by = f"{_kib(base.rate)}, then {_kib(loaded.rate)}"
    else:
        missing = [of for of, pace in ((wanted.against, base), (name, loaded)) if pace is None]
        why = f"nothing is known of {' and '.join(missing)}" if missing else "nothing alike is known of both"
    if not why and loaded:
        why = unloaded(plan, trace, name, loaded.begun, loaded.over)
    return Slowed(group=name, against=wanted.against, times=times, expected=wanted.bounds, by=by, why=why)


def _pace(group: GroupPlan, clients: Sequence[list[Event]]) -> Pace:
    trips: list[float] = []
    rates: list[float] = []
    times: list[float] = []
    for events in clients:
        for event in events:
            if event.trips:
                trips += (trip / 1e6 for trip in event.trips)
                times += (_asked(events, event), event.at)
        for start, end, moved in _moves(group, events):
            rates.append(moved / (end - start))
            times += (start, end)
    return Pace(
        group=group.name,
        trips=tuple(sorted(trips)),
        rates=tuple(rates),
        begun=min(times, default=0.0),
        over=max(times, default=0.0),
    )


def _moves(group: GroupPlan, events: Sequence[Event]) -> Iterator[tuple[float, float, int]]:
    """Of each step that moved bytes: from when, to when, and how many."""
    for index, step in enumerate(group.workload):
        if not isinstance(step, BULK):
            continue
        own = [event for event in events if event.step == index]
        if isinstance(step, Flood):
            moved = [event for event in own if event.what is What.PROGRESS]
            if len(moved) == 1 and not is_through(moved[0]):
                continue  # its first byte alone, after whatever the way there and back took, is no rate
            counted = "sent" if step.way is Way.SEND else "received"
            ends = [(event, int(event.detail.get(counted) or 0)) for event in moved[-1:]]
        else:
            done = [event for event in own if event.what is What.ANSWERED]
            ends = [(event, int(event.detail.get("bytes") or 0)) for event in done[-1:]]
        for event, count in ends:
            start = _asked(own, event)
            if count and start < event.at:
                yield start, event.at, count


def _asked(events: Sequence[Event], answer: Event) -> float:
    asked = (event.at for event in events if event.what is What.ASKED and event.step == answer.step)
    return next(asked, answer.at)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _kib(rate: float) -> str:
    return f"{rate / 1024:.3g} KiB/s"
