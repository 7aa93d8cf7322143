"""Plans made in a line, run against a path, and what came of it in a few words."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.model.claims import Claim
from harness.model.deadline import Deadline
from harness.model.expect import Expectation
from harness.model.link import Endpoint, Link
from harness.model.plan import Boot, Connection, GroupPlan, Initiated, Plan, Schedule
from harness.model.steps import Step, WaitFor
from harness.model.trace import Event, What
from harness.run.control import Tool
from harness.run.coordinator import run_plan
from harness.run.meeting import Deed
from harness.run.nursery import Nursery
from harness.run.roster import Trace
from tests.unit.hangs import HANGS
from tests.unit.processes import alive

BRISK = 0.25
"""A slowness that shortens patience, for tests in which somebody does wait."""


def group(
    name: str,
    *workload: Step,
    count: int = 1,
    after: str | None = None,
    connection: Connection = Connection.OWN,
    initiated: Initiated = Initiated.HOST,
) -> GroupPlan:
    return GroupPlan(
        name=name,
        count=count,
        workload=workload,
        after=after,
        connection=connection,
        initiated=initiated,
    )


def plan(*groups: GroupPlan, drain: bool = False, schedule: Schedule = Schedule.CONCURRENT) -> Plan:
    return Plan(
        scenario="unit",
        title="Unit",
        claim=Claim.MULTIPLE_CLIENTS,
        link=Link.VIRTIO_SERIAL,
        boot=Boot.CLONE,
        schedule=schedule,
        drain=drain,
        groups=groups,
        expect=Expectation(totals={}),
    )


def endpoint(path: Path | str) -> Endpoint:
    return Endpoint(link=Link.VIRTIO_SERIAL, path=str(path))


def run(
    what: Plan,
    where: Path | str | Endpoint,
    nursery: Nursery | None = None,
    *,
    slowness: float = 1.0,
    seconds: float = HANGS,
    on_event: Callable[[Event], None] | None = None,
    deed: Deed | None = None,
    elsewhere: Endpoint | None = None,
    tools: Mapping[str, Tool] | None = None,
) -> Trace:
    """Run the plan, and check what holds of every trace."""
    place = where if isinstance(where, Endpoint) else endpoint(where)
    trace = asyncio.run(
        run_plan(
            what,
            place,
            deadline=Deadline(seconds),
            slowness=slowness,
            on_event=on_event,
            nursery=nursery,
            deed=deed,
            elsewhere=elsewhere,
            tools=tools,
        )
    )
    check(trace)
    return trace


def check(trace: Trace) -> None:
    """In order of time, nothing after a client's end, and no process left."""
    assert [event.at for event in trace] == sorted(event.at for event in trace)
    ended: set[str] = set()
    for event in trace:
        known = event.what is What.FACT and event.step < 0  # by others
        assert known or event.client not in ended, f"{event} after the end of its client"
        if event.what in (What.LEFT, What.LOST, What.REFUSED, What.ENDED):
            ended.add(event.client)
    assert ended == {event.client for event in trace}
    assert not [pid for pid in pids(trace) if alive(pid)]


def ends(trace: Trace, prefix: str = "") -> dict[str, int]:
    """How many clients whose name begins with `prefix` came to which end."""
    names = {event.client for event in trace if event.client.startswith(prefix)}
    return dict(Counter(_end(of(trace, name)) for name in names))


def of(trace: Trace, client: str) -> list[Event]:
    return [event for event in trace if event.client == client]


def only(trace: Trace, client: str, what: What) -> Event:
    """The one event of that kind."""
    found = [event for event in of(trace, client) if event.what is what]
    assert len(found) == 1, found
    return found[0]


def pids(trace: Trace) -> list[int]:
    return [int(event.detail["pid"] or 0) for event in trace if event.what is What.STARTED]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _end(events: list[Event]) -> str:
    seen = [event.what for event in events]
    for what in (What.WRONG, What.STALE, What.LOST, What.REFUSED):
        if what in seen:
            return what.value
    if What.HOLDING in seen or What.LEFT in seen:
        return "served"
    received = any(event.what is What.PROGRESS and event.detail["received"] for event in events)
    # a wait is answered by the coordinator, at last by its ending those that are waited for
    answered = any(event.what is What.ANSWERED and event.op != WaitFor.op for event in events)
    return "stopped" if received or answered else "waiting"
