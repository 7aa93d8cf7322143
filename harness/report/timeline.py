"""A trace as what can be drawn: for each client the states it went through, and the moments that matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from harness.judge.ends import is_answer
from harness.model.plan import Plan
from harness.model.steps import WaitFor
from harness.model.trace import Event, What
from harness.model.verdict import ClientEnd
from harness.report.words import cut, seconds, size

MOST_ROWS = 60
"""Clients that are drawn; the others end as some of these do, and are counted."""

TICKS = 200
"""Places in a row where progress can show; what falls on the same one is drawn once."""

_LONGEST = 160
"""Characters of what a client, or the guest, said."""


class State(StrEnum):
    """What a client is in the middle of."""

    CONNECTING = "connecting"  # in connect()
    WAITING = "waiting"  # has a connection, and told of no answer yet, or of no more
    SERVED = "served"  # answers come
    PAUSED = "paused"  # waits for another group, as its workload says
    HOLDING = "holding"  # all done, connection kept


MOMENTS = (What.FACT, What.REFUSED, What.WRONG, What.STALE, What.LOST, What.LEFT, What.ENDED)
"""Events that are drawn as a sign each; the last six are the last thing a client does, or before LEFT."""

_OVER = frozenset(MOMENTS) - {What.FACT}


class Span(msgspec.Struct, frozen=True):
    """A client was in `state` from `start` to `end`; `text` is the whole of it in words."""

    state: State
    start: float
    end: float
    text: str


class Moment(msgspec.Struct, frozen=True):
    """Something that happened at one time."""

    what: What
    at: float
    text: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One client. Times are seconds since the trace's first event, in `first` None for what never was.

    `first`: the first time of CONNECTING, CONNECTED, ASKED, ANSWERED (whatever came from the agent), HOLDING.
    `ticks`: where in the whole, of `TICKS` places, bytes moved or a round trip was made. Of `steps` steps,
    `done` were answered.
    """

    end: ClientEnd
    spans: tuple[Span, ...]
    moments: tuple[Moment, ...]
    ticks: tuple[int, ...]
    first: dict[What, float]
    over: float | None
    done: int
    steps: int


class Timeline(msgspec.Struct, frozen=True):
    """`rows` in the plan's order, `length` in seconds; `left_out` counts the clients that are not drawn."""

    rows: tuple[Row, ...]
    length: float
    left_out: dict[str, int]


def timeline(plan: Plan, trace: Sequence[Event], ends: Sequence[ClientEnd]) -> Timeline:
    """What `trace` looked like; `ends` are the verdict's, one for each client of the plan.

    Of more than `MOST_ROWS` clients, the first of each group and end are kept, then the first of all.
    """
    start = min((event.at for event in trace), default=0.0)
    length = max((event.at for event in trace), default=start) - start
    by_client: dict[str, list[Event]] = {client: [] for client in plan.clients}
    for event in trace:
        if event.client in by_client:
            by_client[event.client].append(msgspec.structs.replace(event, at=event.at - start))
    drawn = _chosen(ends)
    waits = {
        group.name: {index for index, step in enumerate(group.workload) if isinstance(step, WaitFor)}
        for group in plan.groups
    }
    steps = {group.name: len(group.workload) for group in plan.groups}
    rows = []
    for end in ends:
        if end.client in drawn and end.client in by_client:
            group = end.client.rpartition("/")[0]
            rows.append(_Life(by_client[end.client], waits[group]).row(end, steps[group], length))
    left_out = Counter(f"{_group(end)} {end.end}" for end in ends if end.client not in drawn)
    return Timeline(tuple(rows), length, dict(left_out))


def _chosen(ends: Sequence[ClientEnd]) -> set[str]:
    if len(ends) <= MOST_ROWS:
        return {end.client for end in ends}
    kinds: dict[tuple[str, str], str] = {}
    for end in ends:
        kinds.setdefault((_group(end), end.end), end.client)
    order = [*kinds.values(), *(end.client for end in ends)]
    return set(list(dict.fromkeys(order))[:MOST_ROWS])


def _group(end: ClientEnd) -> str:
    return end.client.rpartition("/")[0]


class _Life:
    """One client's events, read once."""

    def __init__(self, events: list[Event], waits: set[int]) -> None:
        self._events = events
        self._waits = waits
        self._spans: list[Span] = []
        self._first: dict[What, float] = {}
        self._last_answer: float | None = None
        self._open: tuple[State, int, float, list[Event]] | None = None

    def row(self, end: ClientEnd, steps: int, length: float) -> Row:
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
            moments=tuple(_moments(self._events)),
            ticks=tuple(sorted({round(at / width) for at in ticks})),
            first=self._first,
            over=over,
            done=len(done),
            steps=steps,
        )

    def _note(self, event: Event) -> None:
        if event.what in (What.CONNECTING, What.CONNECTED, What.ASKED, What.HOLDING):
            self._first.setdefault(event.what, event.at)
        if is_answer(event, self._waits):
            self._first.setdefault(What.ANSWERED, event.at)
            self._last_answer = event.at

    def _after(self, event: Event) -> State | None:
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
                self._spans.append(Span(state, start, ceased, _told(state, step, start, ceased, events)))
            start, state = max(start, ceased), State.WAITING
        self._spans.append(Span(state, start, at, _told(state, step, start, at, events)))


def _told(state: State, step: int, start: float, end: float, events: Sequence[Event]) -> str:
    op = next((event.op for event in events if event.op and event.step >= 0), "")
    parts = [f"{state}: step {step + 1}, {op}" if op and step >= 0 else str(state)]
    parts.append(f"{seconds(start)} to {seconds(end)}")
    moved = [event for event in events if event.what is What.PROGRESS]
    if moved:
        detail = moved[-1].detail
        parts.append(f"{_size(detail.get('sent'))} sent, {_size(detail.get('received'))} received")
    pings = sum(event.what is What.PINGED for event in events)
    if pings:
        parts.append(f"{pings} round trip{'s' if pings > 1 else ''}")
    answer = next((event for event in events if event.what is What.ANSWERED), None)
    if answer is not None and answer.detail:
        parts.append(f"answered: {_detail(answer)}")
    return "; ".join(parts)


def _moments(events: Sequence[Event]) -> Iterator[Moment]:
    """But for the leaving that follows what a client should not have read: it always does, and at once."""
    read_amiss = False
    for event in events:
        if event.what in MOMENTS and not (read_amiss and event.what is What.LEFT):
            read_amiss = event.what in (What.WRONG, What.STALE)
            said = _detail(event)
            where = f", step {event.step + 1} ({event.op})" if event.step >= 0 else ""
            text = f"{event.what}{where}; {seconds(event.at)}{f'; {said}' if said else ''}"
            yield Moment(event.what, event.at, text)


def _detail(event: Event) -> str:
    """What came with an event; the data's seed is left to the trace."""
    return cut(
        ", ".join(f"{name} {value}" for name, value in event.detail.items() if name != "seed"), _LONGEST
    )


def _size(value: object) -> str:
    return size(value) if isinstance(value, int) else str(value)
