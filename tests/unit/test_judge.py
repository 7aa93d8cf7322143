"""The judge on all our scenarios: right systems pass; a misbehaving one turns each red, on each link."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.judge import judge
from harness.model.expect import Word
from harness.model.fault import FaultKind
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.scenario import load
from harness.model.trace import Event, What
from harness.model.verdict import Outcome
from tests.unit.reds import RED
from tests.unit.systems import System, changed, late, met_as
from tests.unit.traces import SCENARIOS, loaded, plan, right

ALL = [
    (path.stem, link.value) for path in sorted(SCENARIOS.glob("*.yaml")) for link in loaded(path.stem).links
]

FACTS = [
    (scenario, link, group, name)
    for scenario, link in ALL
    for group, wanted in plan(scenario, link).expect.facts.items()
    for name in wanted
]

NOTICED = [
    (scenario, link, group, end)
    for scenario, link in ALL
    for group, wanted in plan(scenario, link).expect.noticed.items()
    for end in wanted.bounds
]


@pytest.mark.parametrize(("scenario", "link"), ALL)
def test_the_right_system_passes(scenario: str, link: str) -> None:
    on_link = plan(scenario, link)
    verdict = judge(on_link, right(on_link))
    assert verdict.differences == ()
    assert verdict.passed
    assert verdict.row.outcome is Outcome.PASSED


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


@pytest.mark.parametrize(("scenario", "link", "group", "end"), NOTICED)
def test_each_noticing_goes_red(scenario: str, link: str, group: str, end: str) -> None:
    on_link = plan(scenario, link)
    for client in (client for client in on_link.clients if client.startswith(f"{group}/")):
        verdict = judge(on_link, late(client, end, 3.0)(on_link))
        did = f"the {end}'s end of {client} noticed"
        if end == "containers":
            did = f"the containers of {client} were gone"
        says = f"{link}: {did} after 3 s, expected within "
        assert [text[: len(says)] for text in verdict.differences] == [says]


def test_a_slow_host_has_more_time_to_notice() -> None:
    on_link = plan("reliability-qemu-killed", "vsock")
    most = on_link.expect.noticed["idle"].host
    assert most
    seen = late("idle/0", "host", 5 * most)
    assert not judge(on_link, seen(on_link)).passed
    assert judge(on_link.stretched(6.0), seen(on_link)).passed
    assert f"within {most:g} s × 4" in judge(on_link.stretched(4.0), seen(on_link)).difference


@pytest.mark.parametrize(("kernel", "passes"), [("6.12", False), ("7.2", True)])
def test_what_is_seen_before_a_fault_is_done_is_named(kernel: str, passes: bool) -> None:
    """Of a VM that is stopped to be saved only Linux 7.2 tells."""
    on_link = loaded("reliability-restored").for_link(Link.VSOCK).on_kernel(kernel, "6.12")
    early = changed(right(on_link), "sending/0", {"sees": "EHOSTUNREACH early", "seconds": "-0.4"})
    assert judge(on_link, early).passed is passes


def test_who_sees_nothing_has_not_noticed() -> None:
    on_link = plan("reliability-qemu-killed", "vsock")
    verdict = judge(on_link, met_as("idle/0", sees="nothing")(on_link))
    assert "the host's end of idle/0 did not notice, expected within" in "\n".join(verdict.differences)


def test_each_scenario_goes_red_on_each_of_its_links() -> None:
    assert {(scenario, link) for scenario, link, _, _ in RED} == set(ALL)


@pytest.mark.parametrize(("scenario", "link"), ALL)
def test_no_trace_at_all_fails(scenario: str, link: str) -> None:
    verdict = judge(plan(scenario, link), [])
    assert verdict.total.seen[Word.LOST] == verdict.total.clients
    assert not verdict.passed
    assert "left no trace" in verdict.difference


@pytest.mark.parametrize(
    ("scenario", "link"), [(name, link) for name, link in ALL if plan(name, link).fault is not None]
)
def test_at_each_death_somebody_looks_on_who_should_notice_nothing(scenario: str, link: str) -> None:
    """A client of another VM; where a shim is killed and its link has others, those."""
    on_link = plan(scenario, link)
    assert on_link.fault
    groups = [group for group in on_link.groups if not on_link.fault.kills(group.name)]
    shim = on_link.fault.kind is FaultKind.SHIM_KILL
    beside = [group.name for group in groups if group.elsewhere or shim]
    looking = [name for name in beside if on_link.expect.facts.get(name, {}).get("sees") == "nothing"]
    assert looking


@pytest.mark.parametrize(("death", "passes"), [("guest-reset", False), ("restored", True)])
def test_a_garbled_new_connection_is_red_where_the_scenario_does_not_name_it(
    death: str, passes: bool
) -> None:
    on_link = plan(f"reliability-proxied-{death}", "serial-proxy")
    found = judge(on_link, met_as("idle/0", reconnect="garbled")(on_link))
    assert found.passed is passes, found.differences


KILLED = [
    (scenario, link, group.name)
    for scenario, link in ALL
    for fault in [plan(scenario, link).fault]
    if fault
    for group in plan(scenario, link).groups
    if fault.kills(group.name)
]


def at_its_death(events: list[Event], client: str, **detail: str) -> list[Event]:
    """As if its end had come in another way."""
    return [
        msgspec.structs.replace(event, detail=detail)
        if event.client == client and event.what is What.LOST
        else event
        for event in events
    ]


@pytest.mark.parametrize(("scenario", "link", "group"), KILLED)
def test_a_shim_that_was_lost_and_not_killed_is_red(scenario: str, link: str, group: str) -> None:
    on_link = plan(scenario, link)
    client = f"{group}/0"
    lost = judge(on_link, at_its_death(right(on_link), client, errno="ECONNRESET"))
    assert f"{link}: {client} was not killed by the fault: it lost its connection " in lost.difference
    crashed = judge(on_link, at_its_death(right(on_link), client, process="exited with 1"))
    assert f"{client} was not killed by the fault" in crashed.difference


@pytest.mark.parametrize(("scenario", "link", "group"), KILLED)
def test_a_shim_that_was_killed_before_the_fault_is_red(scenario: str, link: str, group: str) -> None:
    on_link = plan(scenario, link)
    client = f"{group}/0"
    early = [
        msgspec.structs.replace(event, detail={"doing": "nothing yet"})
        if event.client == client and event.what is What.READY
        else event
        for event in right(on_link)
    ]
    assert f"{link}: {client} was killed before it was " in judge(on_link, early).difference


def quick(folder: Path, said: str) -> Plan:
    """The plan of somebody's short scenario in which QEMU is killed beside another VM's client."""
    text = """\
title: T
links: [vsock]
fault: {kind: qemu-kill}
clients:
  idle: {workload: [meet-fault: {while: idle}]}
  beside: {elsewhere: true, workload: [meet-fault: {while: idle}]}
expect:
  vsock:
    served: 2
"""
    (folder / "x.yaml").write_text(f"{text}    facts: {{idle: {{{said}}}}}\n")
    return load(folder / "x.yaml").for_link(Link.VSOCK)


def test_another_vms_client_that_is_cut_off_is_red_though_nothing_is_said_of_it(tmp_path: Path) -> None:
    on_link = quick(tmp_path, "sees: ECONNRESET")
    assert judge(on_link, right(on_link)).differences == ()
    cut = {"sees": "ECONNRESET early", "then": "gone", "reconnect": "ENODEV"}
    assert judge(on_link, changed(right(on_link), "beside/0", cut)).differences == (
        "vsock: fact sees of beside/0 is ECONNRESET early, expected nothing",
        "vsock: fact then of beside/0 is gone, expected served",
        "vsock: fact reconnect of beside/0 is ENODEV, expected served",
    )


def test_what_is_seen_before_a_fault_is_done_is_red_where_nobody_names_it(tmp_path: Path) -> None:
    on_link = quick(tmp_path, "then: gone")
    assert judge(on_link, right(on_link)).passed
    early = changed(right(on_link), "idle/0", {"sees": "EPIPE early"})
    says = "vsock: fact sees of idle/0 is EPIPE early, which is not expected"
    assert judge(on_link, early).differences == (says,)
