"""Traces as systems would leave them: right ones, and ones that misbehave in a known way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.scenario import Scenario, load
from harness.model.steps import Leave
from harness.model.trace import Event, What
from tests.unit.telling import Telling

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@cache
def loaded(scenario: str) -> Scenario:
    """One of our scenario files."""
    return load(SCENARIOS / f"{scenario}.yaml")


def plan(scenario: str, link: str) -> Plan:
    """The plan of one of our scenario files, on a host with Linux 6.12."""
    return loaded(scenario).for_link(Link(link)).on_kernel("6.12", "6.12")


def everybody_served(
    plan: Plan, second_open: str = "", slowness: dict[str, float] | None = None
) -> list[Event]:
    """All connect and are answered at the same time."""
    telling = Telling(plan, second_open).connects(*plan.clients)
    telling.slowness |= slowness or {}
    for client in plan.clients:
        telling.works(client)
    still = [client for client in plan.clients if holds(telling.events, client)]
    telling.floods()
    return (telling.leaves(*still) if plan.drain else telling.ended(*still)).events


def one_at_a_time(plan: Plan, second_open: str = "", served: int = 1) -> list[Event]:
    """Of those who do not leave, the first `served` are answered; the rest sees nothing, until those leave
    where the plan drains. Groups before them that leave were served and are gone."""
    leaving = itertools.takewhile(lambda group: isinstance(group.workload[-1], Leave), plan.groups)
    gone = [client for group in leaving for client in group.clients]
    clients = plan.clients[len(gone) :]
    telling = Telling(plan, second_open)
    for client in gone:
        telling.connects(client).works(client)
    telling.connects(*clients)
    first, rest = clients[:served], clients[served:]
    for client in rest:
        telling.asks(client)
    for client in first:
        telling.works(client)
    if not plan.drain:
        return telling.ended(*rest, doing="echo").ended(*first).events
    telling.leaves(*first)
    for client in rest:
        telling.works(client).leaves(client)
    return telling.events


def backlogged(plan: Plan) -> list[Event]:
    """The first is served, two wait in a backlog of 1, who come after them are refused; then all in turn."""
    first, one, two, *others = plan.clients
    telling = Telling(plan).connects(*plan.clients).works(first)
    for client in (one, two, *others):
        telling.asks(client)
    for client in others:
        telling.say(client, What.REFUSED, 0, "exchange", errno="ECONNRESET", error="reset by peer")
    for client, following in ((first, one), (one, two)):
        telling.leaves(client).works(following)
    return telling.leaves(two).events


def stale(plan: Plan) -> list[Event]:
    """Of the second group each client reads what was meant for one of the first's."""
    askers, others = plan.groups
    telling = Telling(plan)
    for asker in askers.clients:
        telling.connects(asker).works(asker)
    for other in others.clients:
        telling.connects(other).stale(other)
    return telling.leaves(*others.clients).events


def torn(plan: Plan) -> list[Event]:
    """One of two writers reads the other's answer, which then never gets it."""
    one, other = plan.clients
    telling = Telling(plan).connects(one, other).works(other, upto=1).wrong(one, 1).leaves(one)
    return telling.asks(other, 1).ended(other, doing="echo").events


def unanswered(plan: Plan) -> list[Event]:
    """The end of what each client sent ends the other direction as well."""
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.wrong(client, 0, "an answer of 65536 bytes", "its end after 0").leaves(client)
    return telling.events


def met(plan: Plan) -> list[Event]:
    """The fault comes, and does to each client what it does."""
    assert plan.fault
    victims = [client for group in plan.groups if plan.fault.kills(group.name) for client in group.clients]
    others = [client for client in plan.clients if client not in victims]
    telling = Telling(plan).connects(*plan.clients)
    inherit = plan.scenario == "reliability-serial-shim-killed-receiving"
    for client in plan.clients:
        if inherit and client == "next/0":
            telling.stale(client)
        else:
            telling.dies(client) if client in victims else telling.works(client)
    return telling.ended(*others).events


def right(plan: Plan) -> list[Event]:
    """What each of our scenarios leaves where the system is as it should be."""
    if plan.fault:
        return met(plan)
    if plan.scenario == "multiple-clients-qemu-ga" and plan.link.is_vsock:
        return backlogged(plan)
    if plan.link.is_vsock or plan.link.is_proxied:
        return everybody_served(plan)
    special = {"serial-stale-reply": stale, "serial-two-writers": torn}
    return special.get(plan.scenario, one_at_a_time)(plan)


def without(events: Iterable[Event], client: str, *whats: What) -> list[Event]:
    """The trace without some events of one client (all of them if `whats` is empty)."""
    return [event for event in events if event.client != client or (whats and event.what not in whats)]


def holds(events: Iterable[Event], client: str) -> bool:
    """Whether the client's last event is that it holds."""
    return [event.what for event in events if event.client == client][-1] is What.HOLDING
