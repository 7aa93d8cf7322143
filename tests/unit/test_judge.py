"""The judge: right systems pass, and each scenario goes red on each link when the system misbehaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.judge import judge
from harness.model.errors import InfrastructureError
from harness.model.expect import ENDS, Word
from harness.model.plan import Plan
from harness.model.trace import Event, What
from harness.model.verdict import Outcome, Verdict
from tests.unit import traces
from tests.unit.traces import (
    SCENARIOS,
    Telling,
    everybody_served,
    loaded,
    met,
    one_at_a_time,
    plan,
    right,
    without,
)

ALL = [
    (path.stem, link.value) for path in sorted(SCENARIOS.glob("*.yaml")) for link in loaded(path.stem).links
]

System = Callable[[Plan], list[Event]]

FACTS = [
    (scenario, link, group, name)
    for scenario, link in ALL
    for group, wanted in plan(scenario, link).expect.facts.items()
    for name in wanted
]


@pytest.mark.parametrize(("scenario", "link"), ALL)
def test_the_right_system_passes(scenario: str, link: str) -> None:
    on_link = plan(scenario, link)
    verdict = judge(on_link, right(on_link))
    assert verdict.differences == ()
    assert verdict.passed
    assert verdict.row.outcome is Outcome.PASSED


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
    telling = Telling(on_link).connects(*on_link.clients).works("shim-1/0").works("shim-2/0", 2)
    return telling.asks("shim-2/0", 2).say("shim-2/0", What.LOST, 2, "containers", errno="ECONNRESET").events


def outliving(on_link: Plan) -> list[Event]:
    """cont1 goes on without its shim."""
    telling = Telling(on_link).connects(*on_link.clients).works("shim-1/0").works("shim-2/0", 2)
    return telling.wrong("shim-2/0", 2, "1 containers running", "2").leaves("shim-2/0").events


def hit(**facts: str) -> System:
    """The fault does something else to who is idle."""
    return lambda on_link: changed(met(on_link), "idle/0", facts)


def changed(events: list[Event], client: str, facts: dict[str, str]) -> list[Event]:
    def one(event: Event) -> Event:
        if event.client != client or event.what is not What.FACT:
            return event
        detail = {name: facts.get(name, value) for name, value in event.detail.items()}
        return msgspec.structs.replace(event, detail=detail)

    return [one(event) for event in events]


def heard(on_link: Plan) -> list[Event]:
    """Somebody dials the host's port when the device goes."""
    return changed(met(on_link), "listening/0", {"sees": "called"})


def surviving(on_link: Plan) -> list[Event]:
    """The killed shim's container goes on."""
    events = without(met(on_link), "idle/0", What.ANSWERED, What.HOLDING, What.ENDED)
    telling = Telling(on_link)
    telling.events = events
    return telling.wrong("idle/0", 3, "1 containers running", "2").leaves("idle/0").events


def serving(count: int) -> System:
    return lambda on_link: one_at_a_time(on_link, served=count)


def slow(**slowness: float) -> System:
    """Groups that are so many times slower."""
    return lambda on_link: everybody_served(on_link, slowness=slowness)


def opening(seen: str) -> System:
    return lambda on_link: right(on_link) if not seen else everybody_served(on_link, second_open=seen)


def answering_anyway(on_link: Plan) -> list[Event]:
    """On a serial port, the next client is not bothered by the answer of the one before."""
    asker, other = on_link.clients
    return Telling(on_link).connects(asker).works(asker).connects(other).works(other).ended(other).events


RED: list[tuple[str, str, System, str]] = [
    ("serial-portable", "virtio-serial", flipped, "garbled 1 of 1, expected 0"),
    ("serial-portable", "virtconsole", flipped, "read wrong data in step 4 (echo): expected 00, seen 01"),
    ("serial-portable", "isa-serial", dead, "waiting 1 of 1, expected 0"),
    ("serial-portable", "vsock", dead, "served 0 of 1, expected 1"),
    ("serial-portable", "serial-proxy", flipped, "read wrong data in step 4 (echo): expected 00, seen 01"),
    ("serial-portable", "hybrid-vsock", flipped, "read wrong data in step 4 (echo): expected 00, seen 01"),
    ("serial-second-opener", "virtio-serial", opening("opened"), "client/0 is opened, expected EBUSY"),
    ("serial-second-opener", "virtconsole", opening("EBUSY"), "client/0 is EBUSY, expected opened"),
    ("serial-second-opener", "isa-serial", opening("EBUSY"), "client/0 is EBUSY, expected opened"),
    ("serial-second-opener", "vsock", opening("opened"), "client/0 is opened, expected no-device"),
    ("serial-second-opener", "serial-proxy", opening("opened"), "client/0 is opened, expected EBUSY"),
    ("serial-second-opener", "hybrid-vsock", opening("opened"), "client/0 is opened, expected no-device"),
    ("serial-second-client", "vsock", one_at_a_time, "waited 2 of 3, expected 0; first: client/1 was served"),
    ("serial-second-client", "virtio-serial", everybody_served, "waited 0 of 3, expected 2"),
    ("serial-second-client", "virtconsole", serving(2), "waited 1 of 3, expected 2"),
    ("serial-second-client", "isa-serial", everybody_served, "waited 0 of 3, expected 2"),
    ("serial-second-client", "serial-proxy", one_at_a_time, "waited 2 of 3, expected 0"),
    ("serial-second-client", "hybrid-vsock", one_at_a_time, "waited 2 of 3, expected 0"),
    ("serial-two-writers", "vsock", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-two-writers", "virtio-serial", everybody_served, "served 2 of 2, expected at most 1"),
    ("serial-two-writers", "isa-serial", dead, "garbled 0 of 2, expected at least 1"),
    ("serial-two-writers", "serial-proxy", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-two-writers", "hybrid-vsock", traces.torn, "garbled 1 of 2, expected 0"),
    ("serial-stale-reply", "vsock", traces.stale, "group next: stale 1 of 1, expected 0"),
    ("serial-stale-reply", "virtio-serial", answering_anyway, "group next: served 1 of 1, expected 0"),
    ("serial-stale-reply", "virtconsole", answering_anyway, "group next: served 1 of 1, expected 0"),
    ("serial-stale-reply", "isa-serial", answering_anyway, "group next: stale 0 of 1, expected 1"),
    ("serial-stale-reply", "serial-proxy", traces.stale, "group next: stale 1 of 1, expected 0"),
    ("serial-stale-reply", "hybrid-vsock", traces.stale, "group next: stale 1 of 1, expected 0"),
    ("multiple-clients-8", "vsock", one_at_a_time, "served 1 of 8, expected 8; first: client/1 saw nothing"),
    ("multiple-clients-8", "virtio-serial", serving(2), "2 of 8, expected 1; first: client/1 was served"),
    ("multiple-clients-8", "virtconsole", everybody_served, "waiting 0 of 8, expected 7"),
    ("multiple-clients-8", "isa-serial", dead, "served 0 of 8, expected 1"),
    ("multiple-clients-8", "serial-proxy", one_at_a_time, "served 1 of 8, expected 8"),
    ("multiple-clients-8", "hybrid-vsock", one_at_a_time, "served 1 of 8, expected 8"),
    ("multiple-clients-50", "vsock", refusing_last, "client/49 was refused: ECONNRESET at connect"),
    ("multiple-clients-50", "virtio-serial", serving(2), "served 2 of 50, expected 1"),
    ("multiple-clients-50", "serial-proxy", refusing_last, "client/49 was refused: ECONNRESET at connect"),
    ("multiple-clients-50", "hybrid-vsock", refusing_last, "client/49 was refused: ECONNRESET at connect"),
    ("multiple-clients-guest-initiated", "vsock", undialled, "group dialled: served 0 of 4, expected 4"),
    ("multiple-clients-guest-initiated", "hybrid-vsock", undialled, "dialled: served 0 of 4, expected 4"),
    ("multiple-clients-guest-initiated", "vsock", flipped, "group dialled: garbled 1 of 4, expected 0"),
    (
        "multiple-clients-seqpacket",
        "vsock",
        seeing("dialled/1", 0, "message 2 of 1 bytes", "4097 bytes"),
        "group dialled: garbled 1 of 2, expected 0",
    ),
    ("multiple-clients-seqpacket", "vsock", refusing_last, "dialled/1 was refused: ECONNRESET at connect"),
    (
        "multiple-clients-seqpacket-off",
        "vsock",
        seeing("dialling/0", 0, "ESOCKTNOSUPPORT", "a connection"),
        "dialling/0 read wrong data in step 1 (connect): expected ESOCKTNOSUPPORT, seen a connection",
    ),
    *(
        (
            "multiple-clients-refused",
            link,
            seeing("dialling/0", 1, "ECONNRESET", "a connection"),
            "dialling/0 read wrong data in step 2 (connect): expected ECONNRESET, seen a connection",
        )
        for link in ("vsock", "hybrid-vsock")
    ),
    (
        "multiple-clients-no-such-cid",
        "vsock",
        seeing("dialling/0", 2, "ETIMEDOUT or EHOSTUNREACH", "a connection"),
        "dialling/0 read wrong data in step 3 (connect): expected ETIMEDOUT or EHOSTUNREACH, seen a conn",
    ),
    ("multiple-clients-stalled", "vsock", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-stalled", "virtio-serial", everybody_served, "others: served 4 of 4, expected 0"),
    ("multiple-clients-stalled", "serial-proxy", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-stalled", "hybrid-vsock", one_at_a_time, "group others: served 0 of 4, expected 4"),
    ("multiple-clients-flood", "vsock", slow(beside=9000), "beside 9e+03 × as slow as alone"),
    ("multiple-clients-flood", "serial-proxy", slow(beside=9000), "median round trip 1 ms, then 9e+03 ms"),
    ("multiple-clients-stalled", "vsock", slow(others=100), "others 100 × as slow as before"),
    ("multiple-clients-stalled", "serial-proxy", slow(others=100), "6.4e+03 KiB/s, then 64 KiB/s"),
    ("multiple-clients-small-talkers", "vsock", refusing_last, "talkers/49 was refused: ECONNRESET"),
    ("multiple-clients-small-talkers", "vsock", slow(talkers=1e4), "talkers 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "vsock", slow(flood=1e4), "flood 1e+04 × as slow as bulk"),
    ("multiple-clients-small-talkers", "serial-proxy", slow(talkers=1e4), "talkers 1e+04 × as slow as alone"),
    ("multiple-clients-small-talkers", "serial-proxy", slow(flood=1e4), "flood 1e+04 × as slow as bulk"),
    ("pod-diagram", "vsock", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram", "virtio-serial", everybody_served, "served 2 of 2, expected 1"),
    ("pod-diagram", "serial-proxy", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram", "hybrid-vsock", mixed, "expected stdout 'cont1 out', seen 'cont2 out'"),
    ("pod-diagram-one-leaves", "vsock", noticing, "lost its connection in step 3 (containers): ECONNRESET"),
    ("pod-diagram-one-leaves", "vsock", outliving, "expected 1 containers running, seen 2"),
    (
        "reliability-half-close",
        "vsock",
        seeing("dialled/0", 0, "agents-write EPIPE", "written"),
        "dialled/0 read wrong data in step 1 (shutdown): expected agents-write EPIPE, seen written",
    ),
    ("reliability-half-close", "vsock", traces.unanswered, "seen its end after 0"),
    ("reliability-half-close", "hybrid-vsock", everybody_served, "group dialled: served 1 of 1, expected 0"),
    ("reliability-qemu-killed", "hybrid-vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected eof"),
    ("reliability-qemu-quit", "hybrid-vsock", hit(reconnect="ENODEV"), "reconnect of idle/0 is ENODEV"),
    ("reliability-guest-panic", "hybrid-vsock", hit(sees="eof"), "sees of idle/0 is eof, expected nothing"),
    ("reliability-paused", "hybrid-vsock", hit(then="served"), "then of idle/0 is served, expected silent"),
    ("reliability-agent-killed", "hybrid-vsock", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-qemu-killed", "vsock", hit(sees="nothing"), "idle/0 is nothing, expected ECONNRESET"),
    ("reliability-qemu-quit", "vsock", hit(sees="eof"), "idle/0 is eof, expected ECONNRESET"),
    ("reliability-guest-panic", "vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected nothing"),
    ("reliability-guest-reset", "vsock", hit(then="served"), "then of idle/0 is served, expected eof"),
    ("reliability-paused", "vsock", hit(then="gone"), "then of idle/0 is gone, expected served"),
    ("reliability-listening", "vsock", heard, "sees of listening/0 is called, expected nothing"),
    ("reliability-restored", "vsock", hit(guest="nothing"), "is nothing, expected ECONNRESET"),
    ("reliability-unplugged", "vsock", hit(reconnect="ENODEV"), "reconnect of idle/0 is ENODEV"),
    ("reliability-proxy-killed", "serial-proxy", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-agent-killed", "vsock", hit(sees="ECONNRESET"), "is ECONNRESET, expected eof"),
    ("reliability-serial-qemu-killed", "virtio-serial", hit(sees="nothing"), "is nothing, expected eof"),
    ("reliability-serial-qemu-killed", "serial-proxy", hit(then="silent"), "is silent, expected gone"),
    ("reliability-serial-agent-killed", "virtio-serial", hit(sees="eof"), "is eof, expected nothing"),
    ("reliability-serial-agent-killed", "serial-proxy", hit(sees="eof"), "is eof, expected nothing"),
    ("reliability-shim-killed", "vsock", surviving, "expected 1 containers running, seen 2"),
    ("reliability-shim-killed", "serial-proxy", hit(sees="eof"), "sees of idle/0 is eof"),
    ("pod-diagram-one-leaves", "serial-proxy", outliving, "expected 1 containers running, seen 2"),
    ("pod-diagram-one-leaves", "hybrid-vsock", outliving, "expected 1 containers running, seen 2"),
]


@pytest.mark.parametrize(("scenario", "link", "system", "says"), RED)
def test_a_misbehaving_system_fails(scenario: str, link: str, system: System, says: str) -> None:
    on_link = plan(scenario, link)
    verdict = judge(on_link, system(on_link))
    assert not verdict.passed
    assert verdict.difference.startswith(f"{link}: ")
    assert says in "\n".join(verdict.differences)


@pytest.mark.parametrize(("scenario", "link", "group", "name"), FACTS)
def test_each_fact_goes_red(scenario: str, link: str, group: str, name: str) -> None:
    on_link = plan(scenario, link)
    for client in (client for client in on_link.clients if client.startswith(f"{group}/")):
        verdict = judge(on_link, changed(right(on_link), client, {name: "EXDEV"}))
        assert verdict.difference.startswith(f"{link}: fact {name} of {client} is EXDEV, expected ")


def test_each_scenario_goes_red_on_each_of_its_links() -> None:
    assert {(scenario, link) for scenario, link, _, _ in RED} == set(ALL)


@pytest.mark.parametrize(("scenario", "link"), ALL)
def test_no_trace_at_all_fails(scenario: str, link: str) -> None:
    verdict = judge(plan(scenario, link), [])
    assert verdict.total.seen[Word.LOST] == verdict.total.clients
    assert not verdict.passed
    assert "left no trace" in verdict.difference


def test_the_first_difference_names_the_first_client_in_time() -> None:
    on_link = plan("multiple-clients-8", "vsock")
    telling = Telling(on_link).connects(*on_link.clients)
    telling.say("client/6", What.LOST, 0, "echo", errno="EPIPE").wrong("client/2", 0)
    for client in ("client/0", "client/1", "client/3", "client/4", "client/5", "client/7"):
        telling.works(client)
    verdict = judge(on_link, telling.events)
    assert verdict.difference == (
        "vsock: served 6 of 8, expected 8; first: client/6 lost its connection in step 1 (echo): EPIPE"
    )
    assert verdict.differences[1:] == (
        "vsock: garbled 1 of 8, expected 0",
        "vsock: lost 1 of 8, expected 0",
    )


@pytest.mark.parametrize(
    ("whats", "end"),
    [
        ((What.ANSWERED, What.HOLDING, What.ENDED), Word.LOST),  # it vanished
        ((What.ANSWERED, What.HOLDING), Word.WAITING),
        ((What.HOLDING, What.ENDED), Word.SERVED),
        ((), Word.LOST),
    ],
)
def test_a_client_whose_events_stop(whats: tuple[What, ...], end: Word) -> None:
    on_link = plan("multiple-clients-8", "vsock")
    verdict = judge(on_link, without(everybody_served(on_link), "client/3", *whats))
    assert verdict.ends[3].end is end


def test_answered_at_first_and_then_no_more_is_lost() -> None:
    on_link = plan("serial-portable", "vsock")
    telling = Telling(on_link).connects("client/0").works("client/0", 1).asks("client/0", 1).ended("client/0")
    assert judge(on_link, telling.events).ends[0].why == (
        "was answered at first, then no more: step 2 (send) never ended"
    )


def test_bytes_received_are_an_answer_and_bytes_sent_are_none() -> None:
    on_link = plan("multiple-clients-8", "vsock")
    telling = Telling(on_link).connects(*on_link.clients)
    telling.asks("client/0").say("client/0", What.PROGRESS, 0, "echo", sent=65536, received=0)
    telling.asks("client/1").say("client/1", What.PROGRESS, 0, "echo", sent=65536, received=65536)
    ends = judge(on_link, telling.ended("client/0", "client/1").events).ends
    assert [ends[0].end, ends[1].end] == [Word.WAITING, Word.LOST]


def test_waiting_for_another_group_is_no_answer() -> None:
    on_link = plan("pod-diagram-one-leaves", "vsock")
    steps = on_link.groups[1].workload
    waits = msgspec.structs.replace(on_link.groups[1], workload=(steps[1], *steps[2:]))
    on_link = msgspec.structs.replace(on_link, groups=(on_link.groups[0], waits))
    telling = Telling(on_link).connects("shim-2/0").works("shim-2/0", 1).asks("shim-2/0", 1).ended("shim-2/0")
    assert judge(on_link, telling.events).ends[1].end is Word.WAITING


@pytest.mark.parametrize("told", [{}, {"bytes": 1}])
def test_an_answer_that_compared_less_is_served_but_not_intact(told: dict[str, int]) -> None:
    on_link = plan("multiple-clients-8", "vsock")
    events = [
        msgspec.structs.replace(event, detail=told)
        if event.client == "client/5" and event.what is What.ANSWERED
        else event
        for event in everybody_served(on_link)
    ]
    verdict = judge(on_link, events)
    assert verdict.total.seen[Word.SERVED] == 8
    assert verdict.difference == (
        "vsock: intact 7 of 8, expected 8; first: client/5 was served, but step 1 (echo) compared "
        f"bytes {told.get('bytes')}, not bytes 1048576"
    )


def test_served_without_intact_asks_for_all_served_to_be_intact() -> None:
    on_link = plan("pod-diagram", "virtio-serial")
    events = one_at_a_time(on_link)
    unseen = [msgspec.structs.replace(e, detail={}) if e.op == "run" else e for e in events]
    assert judge(on_link, events).passed
    assert "compared stdout None" in judge(on_link, unseen).difference


def test_trouble_while_holding_counts() -> None:
    on_link = plan("multiple-clients-8", "vsock")
    telling = Telling(on_link)
    telling.events = without(everybody_served(on_link), "client/4", What.ENDED)
    telling.say("client/4", What.LOST, op="hold", errno="eof")
    verdict = judge(on_link, telling.events)
    assert "client/4 lost its connection while holding: eof" in verdict.difference


def test_waited_needs_somebody_who_held_and_left_meanwhile() -> None:
    on_link = plan("serial-second-client", "vsock")
    one, two, three = on_link.clients
    telling = Telling(on_link).connects(one, two).works(one)
    telling.leaves(one).works(two).leaves(two)  # two waited for one
    telling.connects(three).works(three).leaves(three)  # three came when nobody held
    assert [end.waited for end in judge(on_link, telling.events).ends] == [False, True, False]


def test_a_fact_that_nobody_reported() -> None:
    on_link = plan("serial-second-opener", "vsock")
    verdict = judge(on_link, without(right(on_link), "client/0", What.FACT))
    assert verdict.difference == "vsock: fact second-open of client/0 is not reported, expected no-device"
    gone = judge(on_link, [])
    assert gone.differences[-1].endswith("nobody reported it, expected no-device")


def test_another_plans_trace_is_no_verdict() -> None:
    with pytest.raises(InfrastructureError, match=r"client/8, step -1"):
        judge(plan("multiple-clients-8", "vsock"), everybody_served(plan("multiple-clients-50", "vsock")))
    with pytest.raises(InfrastructureError, match=r"client/0, step 1"):
        judge(plan("multiple-clients-8", "vsock"), everybody_served(plan("serial-portable", "vsock")))


def test_the_row_of_the_table() -> None:
    on_link = plan("multiple-clients-8", "isa-serial")
    row = judge(on_link, right(on_link)).row
    assert (row.served, row.waiting, row.refused, row.garbled, row.other) == (1, 7, 0, 0, 0)
    assert row.expected == "served 1, intact 1, waiting 7"
    stalled = plan("multiple-clients-stalled", "virtio-serial")
    assert judge(stalled, right(stalled)).row.expected == (
        "before: served 1, intact 1; stalled: served 1; others: waiting 4"
    )
    writers = plan("serial-two-writers", "virtio-serial")
    assert judge(writers, right(writers)).row.expected == (
        "served at most 1, waiting at most 1, garbled at least 1, lost at most 1"
    )


def test_a_verdict_is_json_and_back() -> None:
    on_link = plan("pod-diagram", "vsock")
    verdict = judge(on_link, mixed(on_link))
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


EVENTS = st.builds(
    Event,
    at=st.floats(0, 100),
    client=st.sampled_from(["asker/0", "next/0"]),
    what=st.sampled_from(What),
    step=st.sampled_from([-1, 0]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_every_client_has_exactly_one_end(events: list[Event]) -> None:
    on_link = plan("serial-stale-reply", "vsock")
    seen = judge(on_link, events).total.seen
    assert sum(seen[word] for word in ENDS) == 2
    assert seen[Word.INTACT] <= seen[Word.SERVED]
    assert seen[Word.WAITED] <= seen[Word.SERVED]


def test_the_judge_reads_no_files() -> None:
    code = "import sys, harness.judge; print([m for m in sys.modules if m.startswith(('ruamel', 'difflib'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
