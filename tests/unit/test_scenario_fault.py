"""Scenario files with a fault: each mistake is one error, at its very place."""

from __future__ import annotations

from pathlib import Path

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

FAULTS = [
    ("shim-kill", "shim-kil", "4:15: unknown fault 'shim-kil'; allowed: {kinds}; did you mean 'shim-kill'?"),
    (", group: one", "", "4:8: shim-kill needs 'group': whose clients are killed; allowed: one, two"),
    (
        "group: one",
        "group: on",
        "4:33: unknown group with 'meet-fault' 'on'; allowed: one, two; did you mean 'one'?",
    ),
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
