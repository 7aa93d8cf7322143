"""How each client ended, from its events alone: the definitions of `docs/scenarios.md` as code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.model.expect import Word
from harness.model.plan import Plan
from harness.model.steps import (
    AskAndLeave,
    Connect,
    Copy,
    Echo,
    Exchange,
    Finish,
    Leave,
    Messages,
    Ping,
    Receive,
    Run,
    Send,
    Shutdown,
    Step,
    WaitFor,
)
from harness.model.trace import TIMES, Event, What
from harness.model.verdict import ClientEnd

_BAD = {
    What.REFUSED: Word.REFUSED,
    What.STALE: Word.STALE,
    What.WRONG: Word.GARBLED,
    What.LOST: Word.LOST,
}
"""The first of these in a client's events is its end."""


class _Seen(NamedTuple):
    """A client before it is known who made whom wait. Times are None for what never happened."""

    end: ClientEnd
    came: float | None  # when it began to connect
    answered: float | None  # when the first thing came from the agent
    held: bool
    left: float | None


def ends_of(plan: Plan, trace: Sequence[Event]) -> tuple[ClientEnd, ...]:
    """The end of each client of `plan`, in its order.

    Only the order within one client's events counts, and times where `waited` is concerned.
    """
    by_client: dict[str, list[Event]] = {client: [] for client in plan.clients}
    for event in trace:
        by_client[event.client].append(event)
    seen = [_look(name, group.workload, by_client[name]) for group in plan.groups for name in group.clients]
    return tuple(_with_waited(one, seen) for one in seen)


def _look(client: str, steps: tuple[Step, ...], events: list[Event]) -> _Seen:
    waits = {index for index, step in enumerate(steps) if isinstance(step, WaitFor)}
    answered = next((event.at for event in events if is_answer(event, waits)), None)
    end, deciding, why = _end(steps, events, answered is not None)
    served = end is Word.SERVED
    uncompared = _uncompared(steps, events) if served else ""
    return _Seen(
        end=ClientEnd(
            client=client,
            end=end,
            intact=served and not uncompared,
            waited=False,
            at=deciding.at if deciding else 0.0,
            why=f"{why}, but {uncompared}" if uncompared else why,
            facts={
                name: str(value)
                for event in events
                if event.what is What.FACT
                for name, value in event.detail.items()
                if name not in TIMES
            },
        ),
        came=_time_of(What.CONNECTING, events),
        answered=answered,
        held=_time_of(What.HOLDING, events) is not None,
        left=_time_of(What.LEFT, events),
    )


def is_answer(event: Event, waits: set[int]) -> bool:
    """Whether something came from the agent. `wait-for` is answered by the coordinator."""
    match event.what:
        case What.ANSWERED:
            return event.step not in waits
        case What.PROGRESS:
            return int(event.detail.get("received") or 0) > 0
    return event.what in (What.FACT, What.PINGED)


def _end(steps: tuple[Step, ...], events: list[Event], answered: bool) -> tuple[Word, Event | None, str]:
    """The word, the event that decided it, and the reason in words."""
    if not events:
        return Word.LOST, None, "left no trace: its process told nothing"
    for event in events:
        if event.what in _BAD:
            return _BAD[event.what], event, _reason(event)
    undone = next((index for index, step in enumerate(steps) if not _done(index, step, events)), None)
    last = events[-1]
    if undone is None:
        deciding = next((event for event in events if event.what in (What.HOLDING, What.LEFT)), last)
        return Word.SERVED, deciding, "was served"
    where = f"step {undone + 1} ({steps[undone].op})"
    if answered:
        return Word.LOST, last, f"was answered at first, then no more: {where} never ended"
    if any(event.what is What.ENDED for event in events):
        doing = next((str(event.detail.get("doing", "")) for event in events if event.what is What.ENDED), "")
        return Word.WAITING, last, f"saw nothing until it was ended ({doing or where})"
    return Word.LOST, last, f"vanished: its last event is {last.what!s}, and {where} never ended"


def _done(index: int, step: Step, events: list[Event]) -> bool:
    left = any(event.what is What.LEFT for event in events)
    match step:
        case Leave():
            return left
        case AskAndLeave():
            return left and any(event.what is What.ASKED and event.step == index for event in events)
    return any(event.what is What.ANSWERED and event.step == index for event in events)


def _reason(event: Event) -> str:
    detail = event.detail
    at = f"in step {event.step + 1} ({event.op})" if event.step >= 0 else "while holding"
    match event.what:
        case What.REFUSED:
            return f"was refused: {detail.get('errno', 'no errno')} at connect"
        case What.STALE:
            seen = detail.get("seen", detail.get("request", ""))
            return f"read a reply to a request it never made {at}: {seen}"
        case What.WRONG:
            return f"read wrong data {at}: expected {detail.get('expected')}, seen {detail.get('seen')}"
    return f"lost its connection {at}: {detail.get('errno', 'eof')}"


def _uncompared(steps: tuple[Step, ...], events: list[Event]) -> str:
    """Where an answer does not say that all was compared which its step asks for; empty if all do."""
    told = {event.step: event.detail for event in events if event.what is What.ANSWERED}
    for index, step in enumerate(steps):
        for name, value in _asked(step).items():
            seen = told[index].get(name)
            if seen is None or (value is not None and seen != value):
                wanted = name if value is None else f"{name} {value}"
                return f"step {index + 1} ({step.op}) compared {name} {seen}, not {wanted}"
    return ""


def _asked(step: Step) -> Mapping[str, str | int | None]:
    """What the answer's detail must have; None where its being there is enough."""
    match step:
        case Echo():
            return {"bytes": step.bytes * step.times}
        case Send() | Receive() | Copy():
            return {"bytes": step.bytes}
        case Exchange():
            return {"bytes": len(step.hear.encode())}
        case Ping():
            return {"times": step.times}
        case Connect():
            return {"seen": None}
        case Messages():
            return {"messages": step.times, "bytes": None}
        case Shutdown():
            deaf = dict.fromkeys(("to-deaf-agent", "agents-write"), step.deaf.value)
            return {"bytes": step.bytes, "answer": step.answer.value, "own-write": "EPIPE", **deaf}
        case Run() | Finish():
            given = {"stdout": step.stdout, "stderr": step.stderr, "exit": step.exit, "signal": step.signal}
            return {name: None for name, value in given.items() if value is not None}
    return {}


def _with_waited(one: _Seen, all_seen: Sequence[_Seen]) -> ClientEnd:
    """`waited`: it came while a served client held, and its first answer came after that one had left."""
    came, answered = one.came, one.answered
    if one.end.end is not Word.SERVED or came is None or answered is None:
        return one.end
    for other in all_seen:
        if other is one or not other.held or other.left is None or other.end.end is not Word.SERVED:
            continue
        if came < other.left <= answered:
            end = one.end
            return ClientEnd(
                client=end.client,
                end=end.end,
                intact=end.intact,
                waited=True,
                at=end.at,
                why=f"{end.why}, but only after {other.end.client} had left",
                facts=end.facts,
            )
    return one.end


def _time_of(what: What, events: list[Event]) -> float | None:
    return next((event.at for event in events if event.what is what), None)
