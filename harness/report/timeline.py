"""A trace as what can be drawn: for each client the states it went through, and the moments that matter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from harness.judge.ends import is_answer
from harness.model.expect import FactWanted, Word, is_wanted
from harness.model.fault import While
from harness.model.plan import Plan
from harness.model.steps import MeetFault, WaitFor
from harness.model.trace import Event, What
from harness.model.verdict import ClientEnd
from harness.report.words import cut, size

AT_FIRST = 12
"""Clients whose rows are seen at first; the others end as some of these do, and are folded."""

AMISS = frozenset({Word.REFUSED, Word.GARBLED, Word.STALE, Word.LOST})
"""Ends to look at first."""

TICKS = 200
"""Places in a row where progress can show; what falls on the same one is drawn once."""

_LONGEST = 160
"""Characters of what a client, or the guest, said."""


class State(StrEnum):
    """What a client is in the middle of."""

    CONNECTING = "connecting"  # in connect()
    WAITING = "waiting"  # has a connection, and told of no answer yet, or of no more
    SERVED = "served"  # answers come
    PAUSED = "paused"  # waits for others, as its workload says
    MEETING = "meeting"  # in the middle of what the fault is to meet
    HOLDING = "holding"  # all done, connection kept


MOMENTS = (What.FACT, What.REFUSED, What.WRONG, What.STALE, What.LOST, What.LEFT, What.ENDED)
"""Events that are drawn as a sign each; the last six are the last thing a client does, or before LEFT."""

_OVER = frozenset(MOMENTS) - {What.FACT}


class Span(msgspec.Struct, frozen=True):
    """A client was in `state` from `start` to `end`; `text` is what else is known: ``STEP OP;WORDS``."""

    state: State
    start: float
    end: float
    text: str


class Moment(msgspec.Struct, frozen=True):
    """Something that happened at one time; `text` as a span's."""

    what: What
    at: float
    text: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One client. Times are seconds since the trace's first event, in `first` None for what never was.

    `first`: the first time of CONNECTING, CONNECTED, ASKED, ANSWERED (whatever came from the agent), HOLDING.
    `ticks`: where in the whole, of `TICKS` places, bytes moved or a round trip was made. Of `steps` steps,
    `done` were answered. `told`: the facts that it told, but for those that are as expected of its group.
    """

    end: ClientEnd
    spans: tuple[Span, ...]
    moments: tuple[Moment, ...]
    ticks: tuple[int, ...]
    first: dict[What, float]
    over: float | None
    done: int
    steps: int
    told: tuple[str, ...] = ()


class Timeline(msgspec.Struct, frozen=True):
    """`rows` in the plan's order; `length` in seconds; `folded`: clients whose rows are seen on demand."""

    rows: tuple[Row, ...]
    length: float
    folded: frozenset[str] = frozenset()


def timeline(plan: Plan, trace: Sequence[Event], ends: Sequence[ClientEnd]) -> Timeline:
    """What `trace` looked like; `ends` are the verdict's, one for each client of the plan.

    Of more than `AT_FIRST` clients, the first of each group and end are seen at first, then those that ended
    amiss, then some all along the order.
    """
    start = min((event.at for event in trace), default=0.0)
    length = max((event.at for event in trace), default=start) - start
    by_client: dict[str, list[Event]] = {client: [] for client in plan.clients}
    for event in trace:
        if event.client in by_client:
            by_client[event.client].append(msgspec.structs.replace(event, at=event.at - start))
    waits = {
        group.name: {index for index, step in enumerate(group.workload) if isinstance(step, WaitFor)}
        for group in plan.groups
    }
    steps = {group.name: len(group.workload) for group in plan.groups}
    rows = []
    for end in ends:
        if end.client in by_client:
            group = end.client.rpartition("/")[0]
            wanted = plan.expect.facts.get(group, {})
            row = _Life(by_client[end.client], waits[group], steps[group]).row(end, length)
            rows.append(msgspec.structs.replace(row, told=_told(by_client[end.client], end, wanted)))
    return Timeline(tuple(rows), length, frozenset(by_client) - _chosen(ends))


def _told(events: Sequence[Event], end: ClientEnd, wanted: Mapping[str, FactWanted]) -> tuple[str, ...]:
    usual = {name for name, value in wanted.items() if is_wanted(end.facts.get(name), value)}
    facts = (event for event in events if event.what is What.FACT)
    return tuple(said for fact in facts if (said := _detail(fact, usual)))


def _chosen(ends: Sequence[ClientEnd]) -> set[str]:
    if len(ends) <= AT_FIRST:
        return {end.client for end in ends}
    kinds: dict[tuple[str, str, bool], str] = {}
    for end in ends:
        kinds.setdefault((_group(end), end.end, end.intact), end.client)
    amiss = (end.client for end in ends if end.end in AMISS)
    along = (ends[place * len(ends) // AT_FIRST].client for place in range(AT_FIRST))
    return set(list(dict.fromkeys([*kinds.values(), *amiss, *along]))[:AT_FIRST])


def _group(end: ClientEnd) -> str:
    return end.client.rpartition("/")[0]


class _Life:
    """One client's events, read once."""

    def __init__(self, events: list[Event], waits: set[int], steps: int) -> None:
        self._events = events
        self._waits = waits
        self._steps = steps
        self._spans: list[Span] = []
        self._first: dict[What, float] = {}
        self._last_answer: float | None = None
        self._open: tuple[State, int, float, list[Event]] | None = None

    def row(self, end: ClientEnd, length: float) -> Row:
        """All of it. `length` is the whole trace's."""
        for event in self._events:
            self._note(event)
            state = self._after(event)
            self._go(state, event)
        if self._events:
            self._close(self._events[-1].at, None)
        ticks = (event.at for event in self._events if event.what in (What.PROGRESS, What.PINGED))
        width = length / TICKS or 1.0
        done = {event.step for event in self._events if event.what is What.ANSWERED}
        over = next((event.at for event in self._events if event.what in _OVER), None)
        return Row(
            end=end,
            spans=tuple(self._spans),
            moments=tuple(self._moments()),
            ticks=tuple(sorted({round(at / width) for at in ticks})),
            first=self._first,
            over=over,
            done=len(done),
            steps=self._steps,
        )

    def _note(self, event: Event) -> None:
        if event.what in (What.CONNECTING, What.CONNECTED, What.ASKED, What.HOLDING):
            self._first.setdefault(event.what, event.at)
        if is_answer(event, self._waits):
            self._first.setdefault(What.ANSWERED, event.at)
            self._last_answer = event.at

    def _after(self, event: Event) -> State | None:
        if event.op == MeetFault.op and event.what is not What.ASKED:
            return self._at_the_fault(event)
        if event.what is What.FACT and event.step < 0:  # told of it, not by it
            return self._open[0] if self._open else None
        answered = State.SERVED if self._last_answer is not None else State.WAITING
        match event.what:
            case What.CONNECTING:
                return State.CONNECTING
            case What.CONNECTED:
                return State.WAITING
            case What.ASKED if event.step in self._waits:
                return State.PAUSED
            case What.HOLDING | What.PINGED:
                return State.HOLDING
            case What.ASKED | What.PROGRESS | What.FACT | What.ANSWERED:
                return answered
        return None

    def _at_the_fault(self, event: Event) -> State | None:
        """It comes, waits for the others, does what is to be met, notices, and looks again when told to."""
        match event.what:
            case What.READY:
                return State.PAUSED if event.detail.get("doing") not in list(While) else State.MEETING
            case What.NOTICED:
                return State.PAUSED
        return self._open[0] if self._open and event.what not in _OVER else None

    def _go(self, state: State | None, event: Event) -> None:
        now = self._open
        if now is not None and state is now[0] and (event.step in (now[1], -1) or now[1] < 0):
            now[3].append(event)
            self._open = (now[0], max(now[1], event.step), *now[2:])
            return
        self._close(event.at, event)
        if state is not None:
            self._open = (state, event.step, event.at, [event])

    def _close(self, at: float, by: Event | None) -> None:
        """End the span that is open; where answers ceased before the end, what is left of it is waiting."""
        if self._open is None:
            return
        state, step, start, events = self._open
        self._open = None
        if by is not None and by.what is What.ANSWERED:
            events.append(by)
        ceased = self._last_answer
        cut_off = by is None or by.what in (What.ENDED, What.LOST)
        unanswered = not any(event.what is What.ANSWERED for event in events)
        if state is State.SERVED and cut_off and unanswered and ceased is not None and ceased < at:
            if start < ceased:
                self._spans.append(Span(state, start, ceased, self._told(state, step, events)))
            start, state = max(start, ceased), State.WAITING
        self._spans.append(Span(state, start, at, self._told(state, step, events)))

    def _told(self, state: State, step: int, events: Sequence[Event]) -> str:
        op = next((event.op for event in events if event.op and event.step >= 0), "")
        parts = []
        answer = next((event for event in events if event.what is What.ANSWERED), None)
        moved = [event for event in events if event.what is What.PROGRESS]
        if moved and (answer is None or state is State.WAITING):
            detail = moved[-1].detail
            ways = (f"{_size(detail[way])} {way}" for way in ("sent", "received") if detail.get(way))
            parts.append(", ".join(ways))
        pings = sum(event.what is What.PINGED for event in events)
        if state is State.MEETING:
            parts.append(str(events[0].detail["doing"]))
        if pings:
            parts.append(f"{pings} round trip{'s' if pings > 1 else ''}")
        if answer is not None and answer.detail and state is not State.WAITING:
            parts.append(f"answered: {_detail(answer)}")
        return self._about(step, op, "; ".join(parts))

    def _moments(self) -> Iterator[Moment]:
        """But for the leaving that follows what a client should not have read: it always does."""
        read_amiss = False
        for event in self._events:
            if event.what in MOMENTS and not (read_amiss and event.what is What.LEFT):
                read_amiss = event.what in (What.WRONG, What.STALE)
                yield Moment(event.what, event.at, self._about(event.step, event.op, _detail(event)))

    def _about(self, step: int, op: str, said: str) -> str:
        """``2 echo;64 KiB sent``: the step's number and word if there is another, then what was told."""
        where = f"{step + 1} {op}" if op and step >= 0 and self._steps > 1 else ""
        return f"{where};{said}" if said else where


def _detail(event: Event, usual: Collection[str] = ()) -> str:
    """What came with an event; what goes without saying is left to the trace, and data's seed and digest."""
    said = (
        _said(name, value)
        for name, value in event.detail.items()
        if name not in ("seed", "sha256", *usual) and (name, value) != ("doing", "holding")
    )
    return cut(", ".join(said), _LONGEST)


def _said(name: str, value: object) -> str:
    """``64 KiB`` for bytes, ``p50 12.5 ms`` for milliseconds."""
    if name == "bytes":
        return _size(value)
    if name.endswith(" ms") and isinstance(value, float):
        return f"{name.removesuffix(' ms')} {value:.3g} ms"
    return f"{name} {value}"


def _size(value: object) -> str:
    return size(value) if isinstance(value, int) else str(value)
