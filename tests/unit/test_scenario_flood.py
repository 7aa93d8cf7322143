"""Scenario files with floods and slowdowns: what they say, and their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.expect import Bounds, Slowdown
from harness.model.link import Link
from harness.model.scenario import load
from harness.model.steps import Flood, Moment, WaitFor, Way
from harness.report.words import workload
from tests.unit.mistakes import Mistake, each, mistakes, says_only

FLOOD = """\
title: T
claim: multiple-clients
links: [vsock]
clients:
  alone: {workload: [{ping: {}}, {leave: {}}]}
  flood: {after: alone, workload: [{flood: {bytes: 1GiB, way: receive}}]}
  beside: {after: flood, workload: [{ping: {}}]}
expect:
  vsock:
    alone: {served: 1}
    flood: {served: 1}
    beside: {served: 1}
    slowdown: {beside: {against: alone, min: 2, max: 60}}
"""


def test_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(FLOOD)
    plan = load(path).for_link(Link.VSOCK)
    assert plan.groups[1].workload == (Flood(bytes=1 << 30, way=Way.RECEIVE),)
    assert plan.expect.slowdown == {"beside": Slowdown(against="alone", bounds=Bounds(min=2, max=60))}
    assert "1 × flood after alone: flood 1 GiB (receive)" in workload(plan)
    path.write_text(FLOOD.replace("way: receive", "piece: 1"))
    plan = load(path).for_link(Link.VSOCK)
    assert plan.groups[1].workload == (Flood(bytes=1 << 30, piece=1),)
    assert "1 × flood after alone: flood 1 GiB (echo) by 1 B" in workload(plan)
    path.write_text(FLOOD.replace(", way: receive", "").replace("min: 2, ", ""))
    plan = load(path).for_link(Link.VSOCK)
    assert plan.groups[1].workload == (Flood(bytes=1 << 30),)
    assert plan.expect.slowdown["beside"].bounds == Bounds(max=60)


PING = "{ping: {}}]}\nexpect"
ALIKE = "have no step alike to be compared by; allowed: ping in both, echo, send, receive or flood in both"
MISTAKES = [
    ("way: receive", "way: up", "6:63: unknown way 'up'; allowed: echo, receive, send"),
    ("way: receive", "piece: 0", "6:65: piece must be at least 1, not 0"),
    ("receive}}]", "receive}}, {ping: {}}]", "6:37: 'flood' must be the last step"),
    (", min: 2, max: 60", "", "13:24: a slowdown needs 'min', 'max' or both"),
    ("min: 2", "min: 0", "13:46: min must be at least 1, not 0"),
    ("max: 60", "max: 1", "13:24: slowdown: min 2 is more than max 1"),
    (
        "max: 60",
        "max: 60, worst: 59",
        "13:65: slowdown: worst 59 is less than max 60: the slowest is of the group",
    ),
    ("min: 2", "mn: 2", "13:41: unknown key 'mn'; allowed: against, min, max, worst; did you mean 'min'?"),
    ("against: alone, ", "", "13:24: slowdown of expect of vsock of beside lacks the key 'against'"),
    (
        "against: alone",
        "against: alon",
        "13:34: unknown group 'alon'; allowed: alone, flood; did you mean 'alone'?",
    ),
    ("against: alone", "against: beside", "13:34: unknown group 'beside'; allowed: alone, flood"),
    ("against: alone", "against: flood", f"13:34: groups 'beside' and 'flood' {ALIKE}"),
    (PING, PING.replace("ping", "leave"), f"13:34: groups 'beside' and 'alone' {ALIKE}"),
    (
        "{beside: {against",
        "{besides: {against",
        "13:16: unknown group 'besides'; allowed: alone, flood, beside; did you mean 'beside'?",
    ),
    (
        "{beside: {against: alone, min: 2, max: 60}}",
        "3",
        "13:15: slowdown of expect of vsock must be a mapping by group, not the number 3; "
        "allowed: alone, flood, beside",
    ),
]


@each(MISTAKES)
def test_one_mistake(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, FLOOD, mistake)


def test_no_group_is_called_slowdown(tmp_path: Path) -> None:
    says = mistakes(tmp_path, FLOOD.replace("  alone: {w", "  slowdown: {w", 1))
    assert says[0] == "5:3: a group cannot be called 'slowdown': the word is taken"


AT_ONCE = FLOOD.replace("[{flood:", "[{wait-for: {group: beside, event: parked}}, {flood:").replace(
    "beside: {after: flood, workload: [", "beside: {workload: [{wait-for: {group: flood, event: holding}}, "
)


def test_who_is_parked_is_not_waited_for_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(AT_ONCE)
    first = load(path).for_link(Link.VSOCK).groups[1].workload[0]
    assert first == WaitFor(group="beside", event=Moment.PARKED)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("event: parked", "event: holding", "6:55: groups wait for each other: flood for beside for flood"),
        (
            "{wait-for: {group: flood, event: holding}}, ",
            "{wait-for: {group: flood, event: left}}, ",
            "7:56: group 'flood' never leaves while others work: end its workload with 'leave'",
        ),
        (
            "beside: {workload",
            "beside: {after: flood, workload",
            "6:55: group 'beside' only begins after 'flood', so never in time",
        ),
    ],
)
def test_what_can_not_be_parked_in_time(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in AT_ONCE
    assert says in mistakes(tmp_path, AT_ONCE.replace(old, new, 1))


def test_who_never_parks_is_waited_for_to_its_end(tmp_path: Path) -> None:
    text = AT_ONCE.replace("[{wait-for: {group: flood, event: holding}}, ", "[").replace(
        "beside: {w", "beside: {after: flood, w"
    )
    assert "groups wait for each other: flood for beside for flood" in mistakes(tmp_path, text)[0]
