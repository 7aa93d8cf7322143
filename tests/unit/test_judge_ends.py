"""The judge's rules: how each client ended, what is said of it, and what is no verdict."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.judge import judge
from harness.model.errors import InfrastructureError
from harness.model.expect import ENDS, Word
from harness.model.trace import Event, What
from harness.model.verdict import Verdict
from tests.unit.systems import mixed
from tests.unit.telling import Telling
from tests.unit.traces import everybody_served, one_at_a_time, plan, right, without


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
    waits = msgspec.structs.replace(on_link.groups[1], workload=steps[2:])
    on_link = msgspec.structs.replace(on_link, groups=(on_link.groups[0], waits))
    telling = Telling(on_link).connects("shim-2/0").works("shim-2/0", 1).asks("shim-2/0", 1).ended("shim-2/0")
    assert judge(on_link, telling.events).ends[-1].end is Word.WAITING


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
        f"bytes {told.get('bytes')}, not bytes 524288"
    )


@pytest.mark.parametrize(
    ("link", "told"),
    [
        (link, (name, value))
        for link, deaf, answer in (("vsock", "written", "none"), ("hybrid-vsock", "EPIPE", "whole"))
        for name, value in (
            ("bytes", 1),
            ("answer", answer),
            ("own-write", "written"),
            ("to-deaf-agent", deaf),
            ("agents-write", deaf),
        )
    ],
)
def test_a_shutdown_that_tells_of_another_end_is_not_intact(link: str, told: tuple[str, str | int]) -> None:
    on_link = plan("reliability-half-close", link)
    name, value = told
    events = [
        msgspec.structs.replace(event, detail={**event.detail, name: value})
        if event.client == "dialled/0" and event.op == "shutdown"
        else event
        for event in right(on_link)
    ]
    assert judge(on_link, right(on_link)).passed
    assert f"step 1 (shutdown) compared {name} {value}, not {name} " in judge(on_link, events).difference


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
    assert sum(seen[word] for word in ENDS) == len(on_link.clients)
    assert seen[Word.INTACT] <= seen[Word.SERVED]
    assert seen[Word.WAITED] <= seen[Word.SERVED]


def test_the_judge_reads_no_files() -> None:
    code = "import sys, harness.judge; print([m for m in sys.modules if m.startswith(('ruamel', 'difflib'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
