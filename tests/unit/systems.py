"""Systems that misbehave, each in one way: the traces they leave."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from harness.model.plan import Initiated, Plan
from harness.model.steps import Flood, MeetFault
from harness.model.trace import Event, What
from tests.unit.telling import Telling
from tests.unit.traces import everybody_served, met, one_at_a_time, right, without

System = Callable[[Plan], list[Event]]

Red = tuple[str, str, System, str]
"""A scenario, a link, a system that turns it red there, and part of what the verdict says."""


def flipped(on_link: Plan) -> list[Event]:
    """One byte of the last data is wrong."""
    last = len(on_link.groups[0].workload) - 1
    client = on_link.clients[0]
    return Telling(on_link).connects(client).works(client, last).wrong(client, last, "00", "01").events


def dead(on_link: Plan) -> list[Event]:
    """Nobody is ever answered."""
    telling = Telling(on_link).connects(*on_link.clients)
    for client in on_link.clients:
        telling.asks(client)
    return telling.ended(*on_link.clients, doing="ping").events


def refusing_last(on_link: Plan) -> list[Event]:
    """The last client finds the backlog full."""
    last = on_link.clients[-1]
    telling = Telling(on_link)
    telling.events = without(everybody_served(on_link), last)
    telling.say(last, What.CONNECTING).say(last, What.REFUSED, errno="ECONNRESET", error="reset by peer")
    return telling.events


def undialled(on_link: Plan) -> list[Event]:
    """The guest does not get through to the host."""
    telling = Telling(on_link)
    telling.events = everybody_served(on_link)
    for client in on_link.groups[0].clients:
        telling.events = without(telling.events, client)
        telling.say(client, What.CONNECTING).say(client, What.REFUSED, errno="ETIMEDOUT", error="timed out")
    return telling.events


def seeing(client: str, step: int, expected: str, seen: str) -> System:
    """All is as it should be, but for one step of one client."""

    def tell(on_link: Plan) -> list[Event]:
        telling = Telling(on_link)
        telling.events = without(everybody_served(on_link), client)
        telling.connects(client).works(client, step).wrong(client, step, expected, seen)
        return telling.leaves(client).events

    return tell


def mixed(on_link: Plan) -> list[Event]:
    """shim-1 reads what cont2 printed."""
    telling = Telling(on_link).connects(*on_link.clients).works("shim-2/0").works("shim-1/0", 2)
    return telling.wrong("shim-1/0", 2, "stdout 'cont1 out'", "'cont2 out'").leaves("shim-1/0").events


def noticing(on_link: Plan) -> list[Event]:
    """When shim-1 leaves, shim-2's connection goes too."""
    telling = Telling(on_link).connects(*on_link.clients).works("shim-1/0").works("shim-2/0", 3)
    return telling.asks("shim-2/0", 3).say("shim-2/0", What.LOST, 3, "containers", errno="ECONNRESET").events


def outliving(on_link: Plan) -> list[Event]:
    """cont1 goes on without its shim."""
    telling = Telling(on_link).connects(*on_link.clients).works("shim-1/0").works("shim-2/0", 3)
    return telling.wrong("shim-2/0", 3, "1 containers running", "2").leaves("shim-2/0").events


def hit(**facts: str) -> System:
    """The fault does something else to who is idle."""
    return met_as("idle/0", **facts)


def met_as(client: str, **facts: str) -> System:
    """The fault does something else to one client."""
    return lambda on_link: changed(met(on_link), client, facts)


def undialled_by_guest(on_link: Plan) -> list[Event]:
    """The guest gets through to no client of the host's."""
    telling = Telling(on_link)
    telling.events = everybody_served(on_link)
    for group in on_link.groups:
        for index, client in enumerate(group.clients):
            if group.opener(index) is Initiated.GUEST:
                telling.events = without(telling.events, client)
                telling.say(client, What.CONNECTING).say(client, What.REFUSED, errno="ETIMEDOUT", error="so")
    return telling.events


def inheriting(on_link: Plan) -> list[Event]:
    """The next shim finds the dead one's container."""
    telling = Telling(on_link)
    telling.events = without(met(on_link), "next/0")
    return telling.connects("next/0").wrong("next/0", 0, "0 containers running", "1").leaves("next/0").events


def served_next(on_link: Plan) -> list[Event]:
    """The next shim is served, as if nothing had been on its way for the dead one."""
    telling = Telling(on_link)
    telling.events = without(met(on_link), "next/0")
    return telling.connects("next/0").works("next/0").ended("next/0").events


def changed(events: list[Event], client: str, facts: dict[str, str]) -> list[Event]:
    def one(event: Event) -> Event:
        if event.client != client or event.what not in (What.FACT, What.NOTICED):
            return event
        detail = {name: facts.get(name, value) for name, value in event.detail.items()}
        return msgspec.structs.replace(event, detail=detail)

    return [one(event) for event in events]


def late(client: str, end: str, seconds: float) -> System:
    """One end of a client's connection notices the fault only after so long, or its containers go."""
    kind, name = {
        "host": (What.NOTICED, "seconds"),
        "guest": (What.FACT, "guest-noticed"),
        "containers": (What.FACT, "containers-gone"),
    }[end]

    def one(event: Event) -> Event:
        if event.client != client or event.what is not kind or name not in event.detail:
            return event
        return msgspec.structs.replace(event, detail={**event.detail, name: seconds})

    return lambda on_link: [one(event) for event in met(on_link)]


def heard(on_link: Plan) -> list[Event]:
    """Somebody dials the host's port when the device goes."""
    return changed(met(on_link), "listening/0", {"sees": "called"})


def untold(client: str, name: str) -> System:
    """Nobody tells this of a client."""

    def one(event: Event) -> Event:
        detail = {fact: value for fact, value in event.detail.items() if fact != name}
        return msgspec.structs.replace(event, detail=detail) if event.client == client else event

    return lambda on_link: [one(event) for event in met(on_link)]


def spoiled(client: str, what: What = What.WRONG) -> System:
    """One that met the fault reads what is not its own, or not as it was sent."""

    def tell(on_link: Plan) -> list[Event]:
        group = next(group for group in on_link.groups if client in group.clients)
        index = next(index for index, step in enumerate(group.workload) if isinstance(step, MeetFault))
        telling = Telling(on_link)
        telling.events = without(met(on_link), client)
        telling.connects(client).works(client, index).asks(client, index)
        telling.say(client, what, index, "meet-fault", expected="00", seen="ff", request=7)
        return telling.leaves(client).events

    return tell


def surviving(on_link: Plan) -> list[Event]:
    """The killed shim's container goes on."""
    events = without(met(on_link), "idle/0", What.ANSWERED, What.HOLDING, What.ENDED)
    telling = Telling(on_link)
    telling.events = events
    return telling.wrong("idle/0", 3, "1 containers running", "3").leaves("idle/0").events


def serving(count: int) -> System:
    return lambda on_link: one_at_a_time(on_link, served=count)


def slow(**slowness: float) -> System:
    """Groups that are so many times slower."""
    return lambda on_link: everybody_served(on_link, slowness=slowness)


def standing_still(on_link: Plan) -> list[Event]:
    """A flood gets no further than its first answer."""
    floods = [group for group in on_link.groups if isinstance(group.workload[-1], Flood)]
    events = everybody_served(on_link)
    for client in (client for group in floods for client in group.clients):
        told = [event for event in events if event.client == client and event.what is What.PROGRESS]
        events = [event for event in events if event not in told[1:]]
    return events


def opening(seen: str) -> System:
    return lambda on_link: right(on_link) if not seen else everybody_served(on_link, second_open=seen)


def answering_anyway(on_link: Plan) -> list[Event]:
    """On a serial port, the next client is not bothered by the answer of the one before."""
    asker, other = on_link.clients
    return Telling(on_link).connects(asker).works(asker).connects(other).works(other).ended(other).events
