"""Paces from a trace, and slowdowns: what makes one red, and what can't be said."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge import judge
from harness.judge.paces import paces
from harness.model.expect import Bounds, Slowdown
from harness.model.plan import GroupPlan, Plan
from harness.model.steps import Echo, Flood, Leave, Moment, Ping, WaitFor
from harness.model.trace import Event, What
from harness.model.trips import MOST, kept, quantile
from harness.model.verdict import Slowed, Verdict
from tests.unit import running
from tests.unit.running import group
from tests.unit.telling import Telling
from tests.unit.traces import everybody_served, without

PINGS = (
    group("alone", Ping(times=3), Leave(), count=2),
    group("flood", Flood(bytes=1 << 30), after="alone"),
    group("beside", Ping(times=3), count=2, after="flood"),
)
ECHOES = (group("alone", Echo(bytes=4096), Leave()), group("beside", Echo(bytes=4096), after="alone"))


def expecting(plan: Plan, low: int = 0, high: int | None = None) -> Plan:
    """The plan with a slowdown of beside against alone, and no word on how clients end."""
    wanted = Slowdown(against="alone", bounds=Bounds(min=low, max=high))
    return msgspec.structs.replace(
        plan, expect=msgspec.structs.replace(plan.expect, totals=None, slowdown={"beside": wanted})
    )


def only(plan: Plan, events: list[Event]) -> Slowed:
    (found,) = judge(plan, events).slowed
    return found


@pytest.mark.parametrize(("high", "passes"), [(49, False), (50, True), (51, True)])
def test_a_slowdown_has_a_most(high: int, passes: bool) -> None:
    plan = expecting(running.plan(*PINGS), high=high)
    verdict = judge(plan, everybody_served(plan, slowness={"beside": 50}))
    assert verdict.passed is passes
    assert verdict.slowed[0].times == 50
    if not passes:
        assert verdict.differences == (
            "virtio-serial: slowdown: beside 50 × as slow as alone, expected at most 49 ×; "
            "median round trip 1 ms, then 50 ms",
        )


@pytest.mark.parametrize(("low", "passes"), [(50, True), (51, False)])
def test_a_slowdown_has_a_least(low: int, passes: bool) -> None:
    plan = expecting(running.plan(*PINGS), low=low)
    assert judge(plan, everybody_served(plan, slowness={"beside": 50})).passed is passes


@pytest.mark.parametrize(("worst", "passes"), [(79, False), (80, True)])
def test_one_client_that_starves_is_found_behind_the_median(worst: int, passes: bool) -> None:
    plan = expecting(running.plan(*PINGS), high=60)
    wanted = msgspec.structs.replace(plan.expect.slowdown["beside"], worst=worst)
    plan = msgspec.structs.replace(
        plan, expect=msgspec.structs.replace(plan.expect, slowdown={"beside": wanted})
    )
    verdict = judge(plan, everybody_served(plan, slowness={"beside": 2, "beside/1": 80}))
    assert verdict.passed is passes
    assert verdict.slowed[0].worst == 80
    if not passes:
        assert verdict.differences == (
            "virtio-serial: slowdown: beside 2 × as slow as alone, its slowest client 80 ×, "
            "expected at most 60 ×, the slowest client at most 79 ×; median round trip 1 ms, then 2 ms; "
            "slowest: beside/1",
        )


def test_who_is_faster_beside_a_load_is_told_in_the_measure_of_the_bounds() -> None:
    slower = Slowed(group="beside", against="alone", times=0.84, expected=Bounds(max=9), worst=0.861, most=12)
    assert str(slower) == "beside 0.84 × as slow as alone, its slowest client 0.861 ×"
    assert slower.asked == "at most 9 ×, the slowest client at most 12 ×"


def test_without_round_trips_bytes_a_second_are_compared() -> None:
    plan = expecting(running.plan(*ECHOES), high=2)
    events = everybody_served(plan)
    asked = next(e for e in events if e.client == "beside/0" and e.what is What.ASKED)
    events[events.index(asked)] = msgspec.structs.replace(asked, at=asked.at - 0.03)
    found = only(plan, events)
    assert found.times == pytest.approx(4)
    assert found.by == "400 KiB/s, then 100 KiB/s"
    assert not found.fits


@pytest.mark.parametrize("gone", ["alone/0", "beside/0"])
def test_what_was_never_answered_has_no_slowdown(gone: str) -> None:
    plan = expecting(running.plan(*ECHOES), high=1000)
    verdict = judge(plan, without(everybody_served(plan), gone))
    assert verdict.difference == (
        "virtio-serial: slowdown: beside not known how much slower than alone, expected at most 1000 ×; "
        f"nothing is known of {gone.partition('/')[0]}"
    )


def test_a_flood_that_was_over_before_is_no_load() -> None:
    plan = expecting(running.plan(*PINGS), high=1000)
    telling = Telling(plan).connects(*plan.clients)
    for client in ("alone/0", "alone/1", "flood/0", "beside/0"):
        telling.works(client)
    telling.floods(through=True)
    found = only(plan, telling.works("beside/1").events)
    assert found.times == 1
    assert not found.fits
    assert found.why == "the flood of flood/0 was through before beside was: it needs more bytes"


def test_a_flood_that_stood_still_after_its_first_answer_is_no_load() -> None:
    plan = expecting(running.plan(*PINGS), high=1000)
    events = everybody_served(plan)
    (first, last) = (event for event in events if event.what is What.PROGRESS)
    others = [event for event in events if event is not last]
    for trace in (others, [*others, msgspec.structs.replace(last, detail=first.detail)]):
        found = only(plan, trace)
        assert found.times == 1
        assert not found.fits
        assert found.why == "the flood of flood/0 moved no byte while beside talked"


def test_a_flood_that_moved_before_others_talked_and_no_more_is_no_load() -> None:
    plan = expecting(running.plan(*PINGS), high=1000)
    telling = Telling(plan).connects(*plan.clients)
    for client in ("alone/0", "alone/1", "flood/0"):
        telling.works(client)
    telling.floods()
    trace = telling.works("beside/0").works("beside/1").events
    assert only(plan, trace).why == "the flood of flood/0 moved no byte while beside talked"
    assert only(plan, telling.floods().events).fits


@pytest.mark.parametrize(("slowness", "fits"), [(1, False), (1.05, False), (1.2, True), (40, True)])
def test_on_slow_hosts_a_flood_tells_less_often(slowness: float, fits: bool) -> None:
    plan = expecting(running.plan(*PINGS), high=1000).stretched(slowness)
    *before, moved = everybody_was_done_before_the_flood_moved(plan)
    left = msgspec.structs.replace(moved, client="beside/0", what=What.LEFT, at=moved.at - 0.01)
    assert only(plan, [*before, left, moved]).fits is fits, "it may have stood still all the while"


def test_a_flood_that_was_waited_for_may_tell_late() -> None:
    plan = expecting(running.plan(*PINGS), high=1000)
    *before, moved = everybody_was_done_before_the_flood_moved(plan)
    ended = msgspec.structs.replace(moved, client="beside/0", what=What.ENDED, at=moved.at + 0.01)
    assert only(plan, [*before, moved, ended]).fits
    assert only(plan, [*before, moved]).fits


def everybody_was_done_before_the_flood_moved(plan: Plan) -> list[Event]:
    """It tells of it 1.1 s after the last was."""
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.works(client)
    *before, moved = telling.floods().events
    return [*before, msgspec.structs.replace(moved, at=moved.at + 1.1)]


def test_a_flood_that_tells_while_it_is_waited_for_is_no_load_of_who_was_through_long_before() -> None:
    plan = expecting(running.plan(*PINGS, group("after", Ping(), after="beside")), high=1000)
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.works(client)
    *before, holding = telling.events
    begun = msgspec.structs.replace(holding, at=holding.at + 1.1)
    moved = telling.floods().events[-1]
    trace = [*before, begun, msgspec.structs.replace(moved, at=begun.at + 0.1)]
    assert only(plan, trace).why == "the flood of flood/0 moved no byte while beside talked"


@pytest.mark.parametrize(
    "later",
    [
        group("flood", Flood(bytes=1 << 30), after="beside"),
        group("flood", WaitFor(group="beside", event=Moment.HOLDING), Flood(bytes=1 << 30)),
    ],
)
def test_a_flood_that_comes_only_afterwards_was_to_be_no_load(later: GroupPlan) -> None:
    plan = expecting(running.plan(PINGS[0], PINGS[2], later), high=1000)
    telling = Telling(plan).connects(*plan.clients)
    for client in plan.clients:
        telling.works(client)
    assert only(plan, telling.events).fits


def test_the_first_byte_of_a_flood_alone_is_no_rate() -> None:
    plan = running.plan(*PINGS)
    events = everybody_served(plan)
    first, last = (event for event in events if event.what is What.PROGRESS)
    assert [pace.group for pace in paces(plan, events)] == ["alone", "flood", "beside"]
    assert [pace.group for pace in paces(plan, [e for e in events if e is not last])] == ["alone", "beside"]
    through = msgspec.structs.replace(first, detail={**first.detail, "through": True})
    whole = [through if event is first else event for event in events if event is not last]
    assert [pace.group for pace in paces(plan, whole)] == ["alone", "flood", "beside"]


def test_a_flood_that_was_over_afterwards_was_a_load() -> None:
    plan = expecting(running.plan(*PINGS), high=1000)
    telling = Telling(plan)
    telling.events = everybody_served(plan)
    assert only(plan, telling.floods(through=True).events).fits


def test_paces_of_every_group_that_did_something() -> None:
    plan = running.plan(*PINGS, group("idle", Leave()))
    alone, flood, beside = paces(plan, everybody_served(plan, slowness={"beside": 7}))
    assert (alone.group, alone.trips, alone.rates) == ("alone", (0.001,) * 6, ())
    assert (beside.median, beside.group) == (0.007, "beside")
    assert alone.begun < alone.over <= flood.begun < beside.begun < beside.over <= flood.over
    assert (flood.group, flood.trips) == ("flood", ())
    assert flood.rate == pytest.approx(10 << 20)
    with pytest.raises(ValueError, match="no round trips"):
        _ = flood.median
    with pytest.raises(ValueError, match="no bytes moved"):
        _ = alone.rate


def test_a_verdict_with_slowdowns_comes_back_from_json() -> None:
    plan = expecting(running.plan(*PINGS), high=1)
    verdict = judge(plan, everybody_served(plan, slowness={"beside": 50}))
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=3 * MOST))
def test_what_is_kept_has_the_extremes_and_the_median(trips: list[int]) -> None:
    few = kept(trips)
    assert len(few) == min(len(trips), MOST)
    assert (min(few), max(few)) == (min(trips), max(trips))
    assert few == tuple(trips) or list(few) == sorted(few)
    ranked = sorted(trips)
    around = len(ranked) // MOST + 1
    middle = len(ranked) // 2
    assert (
        ranked[max(0, middle - around)] <= quantile(few, 0.5) <= ranked[min(middle + around, len(ranked) - 1)]
    )


def test_quantiles_are_nearest_ranks() -> None:
    hundred = list(range(1, 101))
    assert [quantile(hundred, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7], 0.99) == 7
    with pytest.raises(ValueError, match="no round trips"):
        quantile([], 0.5)
