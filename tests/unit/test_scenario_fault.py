"""Scenario files with a fault: each mistake is one error, at its very place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.expect import FactWanted, Noticed
from harness.model.fault import While
from harness.model.link import Link
from harness.model.plan import Boot, Initiated
from harness.model.scenario import load
from harness.model.steps import MeetFault
from tests.unit.mistakes import FLAT, GROUPS, Mistake, each, mistakes, says_only

FAULT = """\
title: T
claim: reliability
links: [vsock]
fault: {kind: shim-kill, group: one}
clients:
  one: {workload: [meet-fault: {while: receiving}]}
  two:
    workload:
      - meet-fault: {while: idle, within: 1}
expect:
  vsock: {one: {lost: 1}, two: {served: 1}, facts: {two: {sees: nothing}}}
"""

SOON = FAULT.replace(
    "  vsock: {one: {lost: 1}, two: {served: 1}, facts: {two: {sees: nothing}}}\n",
    "  vsock:\n    noticed: {two: {host: 0.2, guest: 1}}\n    one: {lost: 1}\n    two: {served: 1}\n",
)

FAULTS = [
    ("shim-kill", "shim-kil", "4:15: unknown fault 'shim-kil'; allowed: {kinds}; did you mean 'shim-kill'?"),
    (", group: one", "", "4:8: shim-kill needs 'group': whose clients are killed; allowed: one, two"),
    (
        "group: one",
        "group: on",
        "4:33: unknown group with 'meet-fault' 'on'; allowed: one, two; did you mean 'one'?",
    ),
    (
        "group: one",
        "group: [one, tw]",
        "4:39: unknown group with 'meet-fault' 'tw'; allowed: one, two; did you mean 'two'?",
    ),
    ("group: one", "group: []", "4:33: group is empty"),
    ("shim-kill", "pause", "4:22: pause is done to no group"),
    (
        "while: idle",
        "while: idl",
        "9:29: unknown activity 'idl'; allowed: {doings}; did you mean 'idle'?",
    ),
    ("within: 1", "within: 0", "9:43: within must be at least 1, not 0"),
    (
        "within: 1}",
        "within: 1}\n      - meet-fault: {while: sending}",
        "10:9: a second 'meet-fault': the fault comes once",
    ),
    ("sees: nothing", "sees: [nothing, 5]", "11:75: an item of {of} must be text, not the number 5{quotes}"),
    ("sees: nothing", "second-open: EBUSY", "11:58: {lacks} the fact 'second-open'; 'open-device' does"),
    ("  two:\n", "  two:\n    connection: shared\n", "8:5: who meets a fault has its own connection"),
    ("title: T", "title: T\nschedule: sequential", "5:1: {sequential}"),
]
NOTICED = [
    (
        "host: 0.2",
        "hosts: 0.2",
        "12:21: unknown key 'hosts'; allowed: host, guest, containers; did you mean 'host'?",
    ),
    ("host: 0.2, guest: 1", "", "12:20: noticed needs 'host', 'guest' or 'containers'"),
    (
        "host: 0.2",
        "containers: 0.2",
        "12:33: no step of group 'two' leaves a container running; 'start' does",
    ),
    ("host: 0.2", "host: soon", "12:27: host must be a number, not 'soon'"),
    ("host: 0.2", "host: -0.5", "12:27: host must be at least 0, not -0.5"),
    ("guest: 1", "guest: true", "12:39: guest must be a number, not true"),
    ("two: {host", "tow: {host", "12:15: unknown group 'tow'; allowed: one, two; did you mean 'two'?"),
]
TOLD = {
    "kinds": "qemu-kill, qemu-quit, guest-panic, guest-reset, pause, agent-kill, shim-kill, "
    "proxy-kill, unplug, unbind, restore",
    "of": "facts of expect of vsock of two of sees",
    "doings": "idle, sending, receiving, connecting, listening",
    "quotes": ": put it in quotes",
    "lacks": "no step of group 'two' gives",
    "sequential": "a fault needs clients that work at once: not sequential",
}


@each(FAULTS)
def test_one_mistake_with_a_fault(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, FAULT, mistake, **TOLD)


def test_a_fault_and_those_who_meet_it_belong_together(tmp_path: Path) -> None:
    without = FAULT.replace("fault: {kind: shim-kill, group: one}\n", "", 1)
    assert mistakes(tmp_path, without) == [
        "5:19: 'meet-fault' without a 'fault' in the scenario",
        "8:7: 'meet-fault' without a 'fault' in the scenario",
    ]
    assert mistakes(tmp_path, FLAT.replace("clients:", "fault: {kind: pause}\nclients:", 1)) == [
        "4:1: nobody meets the fault: no group has the step 'meet-fault'"
    ]
    beside = GROUPS.replace("    count: 2", "    elsewhere: true\n    count: 2", 1)
    assert mistakes(tmp_path, beside) == ["8:5: 'elsewhere' is for scenarios with a 'fault'"]


def test_a_guest_calls_nobody_over_a_serial_port(tmp_path: Path) -> None:
    text = FAULT.replace("vsock", "serial-proxy").replace("while: idle", "while: listening")
    what = "'listening' is for vsock: a guest connects over no serial port"
    assert mistakes(tmp_path, text) == [f"9:29: {what}"]


def test_what_a_client_does_may_differ_per_link(tmp_path: Path) -> None:
    doings = "{default: idle, isa-serial: sending}"
    text = FAULT.replace("while: idle", f"while: {doings}").replace("[vsock]", "[vsock, isa-serial]")
    text += "  isa-serial: {one: {lost: 1}, two: {served: 1}}\n"
    (tmp_path / "x.yaml").write_text(text)
    scenario = load(tmp_path / "x.yaml")
    for link, doing in (("vsock", While.IDLE), ("isa-serial", While.SENDING)):
        (step,) = scenario.for_link(Link(link)).groups[1].workload
        assert step == MeetFault(doing=doing, within=1)
    bad = text.replace("default: idle", "vsok: idle")
    assert "9:30: unknown link 'vsok'" in "\n".join(mistakes(tmp_path, bad))
    listening = text.replace("default: idle", "default: listening")
    what = "'listening' is for vsock: a guest connects over no serial port"
    assert mistakes(tmp_path, listening) == [f"9:29: {what}"]


def test_who_is_connecting_may_be_called_by_the_guest(tmp_path: Path) -> None:
    text = FAULT.replace("  two:\n", "  two:\n    initiated: guest\n").replace(
        "while: idle", "while: connecting"
    )
    (tmp_path / "x.yaml").write_text(text)
    assert load(tmp_path / "x.yaml").for_link(Link.VSOCK).groups[1].opener(0) is Initiated.GUEST
    what = "'listening' is about connections of its own: not with 'initiated'"
    assert mistakes(tmp_path, text.replace("connecting", "listening")) == [f"10:29: {what}"]


def test_how_soon_each_end_notices(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(SOON)
    expect = load(path).for_link(Link.VSOCK).expect
    assert expect.noticed == {"two": Noticed(host=0.2, guest=1.0)}
    assert expect.stretched(7.5).noticed == {"two": Noticed(host=0.2, guest=1.0, slowness=7.5)}


@each(NOTICED)
def test_one_mistake_of_what_is_noticed(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, SOON, mistake)


def test_who_meets_no_fault_notices_none(tmp_path: Path) -> None:
    says = mistakes(tmp_path, SOON.replace("- meet-fault: {while: idle, within: 1}", "- ping: {}"))
    assert "12:20: no step of group 'two' notices a fault; 'meet-fault' does" in says


def test_what_goes_on_from_a_clone_is_not_booted_cold(tmp_path: Path) -> None:
    text = FAULT.replace("{kind: shim-kill, group: one}", "{kind: unplug}\nboot: cold")
    why = "a vsock device that was there at boot is in no port that it can be unplugged from"
    assert mistakes(tmp_path, text) == [f"5:7: boot cannot be 'cold' on link 'vsock': {why}"]
    (tmp_path / "port.yaml").write_text(text.replace("vsock", "virtio-serial"))
    assert load(tmp_path / "port.yaml").for_link(Link.VIRTIO_SERIAL).boot is Boot.COLD
    why = "a VM is restored with the memory and the command line of a clone"
    text = text.replace("unplug", "restore").replace("vsock", "virtio-serial")
    assert mistakes(tmp_path, text) == [f"5:7: boot cannot be 'cold' on link 'virtio-serial': {why}"]


QUICK = """\
title: T
links: [vsock, virtio-serial]
fault: {kind: qemu-kill}
clients:
  idle: {workload: [meet-fault: {while: idle}]}
  beside: {elsewhere: true, workload: [meet-fault: {while: idle}]}
expect:
  vsock:
    served: 2
    facts: {idle: {sees: ECONNRESET}}
  virtio-serial: {served: 2, facts: {idle: {sees: eof}}}
"""


def facts(tmp_path: Path, text: str, link: Link, group: str) -> dict[str, FactWanted]:
    (tmp_path / "x.yaml").write_text(text)
    return load(tmp_path / "x.yaml").for_link(link).expect.facts[group]


def test_to_whom_a_fault_does_nothing_notices_nothing(tmp_path: Path) -> None:
    undisturbed = {"sees": "nothing", "then": "served", "reconnect": "served"}
    assert facts(tmp_path, QUICK, Link.VSOCK, "beside") == undisturbed
    assert facts(tmp_path, QUICK, Link.VSOCK, "idle") == {"sees": "ECONNRESET"}
    with_one_client = {"sees": "nothing", "then": "served"}
    assert facts(tmp_path, QUICK, Link.VIRTIO_SERIAL, "beside") == with_one_client
    assert facts(tmp_path, SOON, Link.VSOCK, "two") == undisturbed
    calling = SOON.replace("  two:\n", "  two:\n    initiated: guest\n").replace("idle", "connecting")
    assert facts(tmp_path, calling, Link.VSOCK, "two") == {"sees": "called", "reconnect": "served"}
    both = calling.replace("initiated: guest", "initiated: both\n    count: 2").replace(
        "served: 1", "served: 2"
    )
    assert facts(tmp_path, both, Link.VSOCK, "two")["sees"] == ("nothing", "called")


def test_unless_the_scenario_says_otherwise(tmp_path: Path) -> None:
    text = QUICK.replace("facts: {idle", "facts: {beside: {reconnect: [EPIPE, eof], next-send: ok}, idle", 1)
    said = {"sees": "nothing", "then": "served", "reconnect": ("EPIPE", "eof"), "next-send": "ok"}
    assert facts(tmp_path, text, Link.VSOCK, "beside") == said


@pytest.mark.parametrize(
    ("said", "filled_in"),
    [
        ("nothing", True),
        ("[nothing]", True),
        ("[nothing, ECONNRESET]", False),
        ('{linux: "7.2", before: nothing, since: ECONNRESET}', False),
    ],
)
def test_of_who_may_see_something_nothing_is_filled_in(tmp_path: Path, said: str, filled_in: bool) -> None:
    text = FAULT.replace("sees: nothing", f"sees: {said}")
    assert ({"then", "reconnect"} <= facts(tmp_path, text, Link.VSOCK, "two").keys()) is filled_in


def test_who_may_or_may_not_be_called_may_see_one_of_the_two(tmp_path: Path) -> None:
    both = "initiated: both\n    count: 2"
    text = FAULT.replace("  two:\n", f"  two:\n    {both}\n").replace("idle", "connecting")
    text = text.replace("two: {served: 1}", "two: {served: 2}").replace(
        "sees: nothing", "sees: [called, nothing]"
    )
    told = {"sees": ("called", "nothing"), "reconnect": "served"}
    assert facts(tmp_path, text, Link.VSOCK, "two") == told


def test_of_who_is_not_to_be_served_nothing_is_filled_in(tmp_path: Path) -> None:
    text = FAULT.replace("[vsock]", "[virtio-serial]").replace("  vsock: {", "  virtio-serial: {")
    text = text.replace("two: {served: 1}, facts: {two: {sees: nothing}}", "two: {lost: 1}")
    (tmp_path / "x.yaml").write_text(text)
    assert load(tmp_path / "x.yaml").for_link(Link.VIRTIO_SERIAL).expect.facts == {}


@pytest.mark.parametrize(("said", "place"), [("", "9:5"), ("    facts: {beside: {then: served}}\n", "10:5")])
def test_of_whom_it_hits_something_must_be_said(tmp_path: Path, said: str, place: str) -> None:
    text = QUICK.replace("    facts: {idle: {sees: ECONNRESET}}\n", said, 1)
    what = "nothing is said of what the fault does to group 'idle': it needs a fact such as 'sees'"
    (says,) = mistakes(tmp_path, text)
    assert says == f"{place}: {what}"


@pytest.mark.parametrize(
    "said",
    ["noticed: {idle: {host: 0.2}}", "facts: {idle: {reconnect: ENODEV}}"],
)
def test_what_must_be_said_may_be_any_fact_or_how_soon(tmp_path: Path, said: str) -> None:
    (tmp_path / "x.yaml").write_text(QUICK.replace("facts: {idle: {sees: ECONNRESET}}", said, 1))
    assert load(tmp_path / "x.yaml").plans


def test_who_is_not_to_be_served_may_tell_nothing(tmp_path: Path) -> None:
    lost = "idle: {lost: 1}\n    beside: {served: 1}"
    text = QUICK.replace("served: 2\n    facts: {idle: {sees: ECONNRESET}}", lost, 1)
    (tmp_path / "x.yaml").write_text(text)
    assert load(tmp_path / "x.yaml").plans
