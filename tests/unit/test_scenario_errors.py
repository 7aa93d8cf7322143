"""Each mistake of form or sense in a scenario file is one error, at its very place, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.mistakes import FLAT, GROUPS, mistakes

STEPS = (
    "echo, ping, send, receive, run, start, finish, open-device, ask-and-leave, stop-reading, flood, "
    "wait-for, containers, meet-fault, leave, connect, messages, shutdown"
)
WORDS = "served, intact, waited, waiting, refused, garbled, stale, lost"
KEYS = f"{WORDS}, facts, slowdown"
FACTS = "second-open, sees, next-send, then, reconnect, guest"
FILE_KEYS = (
    "title, claim, about, links, long, boot, seqpacket, schedule, drain, fault, clients, workload, expect"
)


FORM = [
    (
        "clients: 8",
        "clinets: 8",
        f"4:1: unknown key 'clinets'; allowed: {FILE_KEYS}; did you mean 'clients'?",
    ),
    ("clients: 8\n", "", "1:1: a scenario lacks the key 'clients'"),
    ("title: T", "title: 8", "1:8: title must be one line of text, not the number 8: put it in quotes"),
    ("title: T", "title: true", "1:8: title must be one line of text, not true: put it in quotes"),
    ("title: T", "title:", "1:1: title must be one line of text, not empty"),
    ("title: T", "title: |\n  a\n  b", "1:8: title must be one line of text, not 'a\\nb\\n'"),
    ("title: T", "title: T\ndrain: yes", "2:8: drain must be true or false, not 'yes'"),
    (
        "title: T",
        "title: T\nboot: Cold",
        "2:7: unknown boot 'Cold'; allowed: clone, cold; did you mean 'cold'?",
    ),
    (
        "[vsock,",
        "[vsok,",
        "3:9: unknown link 'vsok'; allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, "
        "hybrid-vsock; did you mean 'vsock'?",
    ),
    (
        "[vsock,",
        "[virtio_serial,",
        "3:9: unknown link 'virtio_serial'; allowed: vsock, virtio-serial, virtconsole, isa-serial, "
        "serial-proxy, hybrid-vsock; did you mean 'virtio-serial'?",
    ),
    (
        "[vsock,",
        "[1,",
        "3:9: an item of links must be a word, not the number 1; "
        "allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, hybrid-vsock",
    ),
    ("links: [vsock, virtio-serial]", "links: vsock", "3:8: links must be a list, not 'vsock'"),
    ("links: [vsock, virtio-serial]", "links: []", "3:8: links is empty"),
    ("title: T", "title: T\nlong: yes", "2:7: long must be true or false or a list, not 'yes'"),
    (
        "title: T",
        "title: T\nlong: [isa-serial]",
        "2:8: link 'isa-serial' is not in 'links'; allowed: vsock, virtio-serial",
    ),
    ("clients: 8", "clients: eight", "4:10: clients must be an integer or a mapping by name, not 'eight'"),
    (
        "clients: 8",
        "clients: 8.0",
        "4:10: clients must be an integer or a mapping by name, not the number 8.0",
    ),
    ("clients: 8", "clients:", "4:1: clients must be an integer or a mapping by name, not empty"),
    ("clients: 8", "clients: 0", "4:10: clients must be at least 1, not 0"),
    ("clients: 8", "clients: 1001", "4:10: clients must be at most 1000, not 1001"),
    ("clients: 8", "clients: {}", "4:10: clients is empty"),
    ("echo:", "ecko:", f"6:5: unknown step 'ecko'; allowed: {STEPS}; did you mean 'echo'?"),
    (
        "bytes: 1MiB}",
        "bytes: 1MiB}\n    ping: {}",
        "7:5: 'ping' is a second key beside 'echo': a step has one, so begin with '- '",
    ),
    (
        "- echo: {bytes: 1MiB}",
        "- {}",
        f"6:5: an item of workload must have exactly one key; allowed: {STEPS}",
    ),
    (
        "- echo: {bytes: 1MiB}",
        "- ping",
        "6:5: an item of workload must be a mapping, not 'ping': write ping: {}",
    ),
    ("- echo: {bytes: 1MiB}", "- ping:", "6:5: ping must be a mapping, not empty: write {}"),
    ("- echo: {bytes: 1MiB}", "- echo: {}", "6:11: echo lacks the key 'bytes'"),
    (
        "{bytes: 1MiB}",
        "{byts: 1MiB}",
        "6:12: unknown key 'byts'; allowed: bytes, times; did you mean 'bytes'?",
    ),
    (
        "1MiB",
        "1MB",
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB, not '1MB'; did you mean '1MiB'?",
    ),
    ("1MiB", "1.5MiB", "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB, not '1.5MiB'"),
    (
        "1MiB",
        '"1MiB\\n"',
        "6:19: bytes must be a size such as 64KiB, 1MiB, 2GiB, not '1MiB\\n'; did you mean '1MiB'?",
    ),
    ("1MiB", "-1", "6:19: bytes must be at least 1, not -1"),
    (
        "1MiB",
        "true",
        "6:19: bytes must be an integer or a size such as 64KiB, 1MiB, 2GiB or a mapping by link, not true",
    ),
    (
        "1MiB",
        "{default: 1, isaserial: 2}",
        "6:32: unknown link 'isaserial'; allowed: default, vsock, virtio-serial, virtconsole, isa-serial, "
        "serial-proxy, hybrid-vsock; did you mean 'isa-serial'?",
    ),
    (
        "  vsock: {",
        "  vsok: {",
        "8:3: unknown link 'vsok'; allowed: vsock, virtio-serial, virtconsole, isa-serial, serial-proxy, "
        "hybrid-vsock; did you mean 'vsock'?",
    ),
    (
        "multiple-clients",
        "multiple-client",
        "2:8: unknown claim 'multiple-client'; allowed: serial-portable, serial-one-process, "
        "multiple-clients, pod-diagram, host-requirements, kata-config, vmware-guest, high-density, "
        "reliability; did you mean 'multiple-clients'?",
    ),
]

SENSE = [
    ("1MiB", "0KiB", "6:19: bytes must be 1 to 1099511627776, not 0"),
    (
        "1MiB",
        "{default: 1, isa-serial: 2}",
        "6:32: link 'isa-serial' is not in 'links'; allowed: vsock, virtio-serial",
    ),
    ("1MiB", "{vsock: 1}", "6:12: bytes has neither a value for link 'virtio-serial' nor a default"),
    ("- echo:", "- leave: {}\n  - echo:", "6:5: 'leave' must be the last step"),
    ("workload:\n  - echo: {bytes: 1MiB}\n", "", "4:1: a number of clients needs 'workload' beside it"),
    (
        "echo: {bytes: 1MiB}",
        "ask-and-leave: {bytes: 2MiB}",
        "6:28: bytes must be 1 to 1048576, not 2097152",
    ),
    ("[vsock,", "[vsock, vsock,", "3:16: link 'vsock' a second time"),
    (
        "  virtio-serial: {served: 1, waiting: 7}\n",
        "",
        "3:16: link 'virtio-serial' has no expectation in 'expect'",
    ),
    (", virtio-serial]", "]", "9:3: link 'virtio-serial' is not in 'links'; allowed: vsock"),
    ("served: 8", "served: 9", "8:19: served: 9 of 8 clients cannot be"),
    ("served: 8", "served: 7", "8:10: expect of vsock accounts for 7 of 8 clients: how do the others end?"),
    (
        "served: 8",
        "served: 5, waiting: 5",
        "8:10: expect of vsock accounts for at least 10 of 8 clients",
    ),
    ("served: 8", "served: {min: 5, max: 3}", "8:19: served: min 5 is more than max 3"),
    ("served: 8", "served: {}", "8:19: served needs a number, or 'min', 'max' or both"),
    ("served: 8", "served: {max: 9}", "8:19: served: at most 9 of 8 clients cannot be"),
    ("served: 8", "served: {mn: 8}", "8:20: unknown key 'mn'; allowed: min, max; did you mean 'min'?"),
    ("served: 8", "served: all", "8:19: served must be an integer or a mapping, not 'all'"),
    ("served: 8", "served: 8, waited: 9", "8:30: waited: 9 of 8 clients cannot be"),
    ("served: 1, waiting: 7", "served: 1, waiting: 7, intact: 2", "9:50: intact: 2, but served: 1"),
    (
        "served: 8",
        "srved: 8",
        f"8:11: unknown word or group 'srved'; allowed: {KEYS}, client; did you mean 'served'?",
    ),
    (
        "{served: 8}",
        "{}",
        f"8:10: expect of vsock says nothing of how clients end; allowed: {WORDS}, client",
    ),
    (
        "{served: 8}",
        "8",
        f"8:10: expect of vsock must be a mapping, not the number 8; allowed: {KEYS}, client",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {client: {second-open: x}}}",
        "8:38: no step of group 'client' gives the fact 'second-open'; 'open-device' does",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {client: {second-opn: x}}}",
        f"8:39: unknown fact 'second-opn'; allowed: {FACTS}; did you mean 'second-open'?",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: {clint: {second-open: x}}}",
        "8:30: unknown group 'clint'; allowed: client; did you mean 'client'?",
    ),
    (
        "{served: 8}",
        "{served: 8, facts: []}",
        "8:29: facts of expect of vsock must be a mapping by group, not a list; allowed: client",
    ),
]


@pytest.mark.parametrize(("old", "new", "says"), FORM + SENSE, ids=[new[:30] for _, new, _ in FORM + SENSE])
def test_one_mistake_in_a_flat_file(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in FLAT
    assert mistakes(tmp_path, FLAT.replace(old, new, 1)) == [says]


IN_GROUPS = [
    ("after: one", "after: on", "7:12: unknown group 'on'; allowed: one; did you mean 'one'?"),
    ("after: one", "after: two", "7:12: group 'two' would wait for itself; allowed: one"),
    (
        "one: {workload",
        "one: {after: two, workload",
        "5:16: groups wait for each other: one for two for one",
    ),
    (
        "ping: {}",
        "wait-for: {group: two, event: left}",
        "5:39: groups wait for each other: one for two for one",
    ),
    (
        "ping: {}",
        "wait-for: {group: two, event: gone}",
        "5:51: unknown event 'gone'; allowed: parked, left, holding, ended",
    ),
    (
        "one: {workload",
        "one: {initiated: gest, workload",
        "5:20: unknown initiated 'gest'; allowed: host, guest; did you mean 'guest'?",
    ),
    ("ping: {}", "messages: {bytes: 64KiB}", "5:39: bytes must be 1 to 32768, not 65536"),
    (
        "ping: {}",
        "connect: {to: nowhere}",
        "5:35: unknown target 'nowhere'; allowed: listening, refusing, no-vm, nobody",
    ),
    (
        "ping: {}",
        "connect: {to: nobody, fails: reset}",
        "5:50: fails must be an errno's name such as EPIPE, not 'reset'",
    ),
    (
        "ping: {}",
        "shutdown: {bytes: 1, type: packet}",
        "5:48: unknown type 'packet'; allowed: stream, seqpacket, dgram; did you mean 'seqpacket'?",
    ),
    (
        "- start:",
        "- wait-for: {group: one, event: left}\n      - start:",
        "10:39: group 'one' never leaves while others work: end its workload with 'leave'",
    ),
    (
        "finish: {name: c}",
        "finish: {name: cc}",
        "11:24: unknown container 'cc'; allowed: c; did you mean 'c'?",
    ),
    (
        "      - start: {name: c, argv: [cat]}\n",
        "",
        "10:24: container 'c' was not started: no 'start' above",
    ),
    (
        "- finish: {name: c}",
        "- finish: {name: c}\n      - finish: {name: c}",
        "12:24: container 'c' was finished already",
    ),
    (
        "- finish: {name: c}",
        "- start: {name: c, argv: [cat]}",
        "11:23: container 'c' was started already",
    ),
    (
        "finish: {name: c}",
        "finish: {name: c, exit: 1, signal: SIGTERM}",
        "11:36: a container ends by 'exit' or by 'signal', not both",
    ),
    ("finish: {name: c}", "finish: {name: c, exit: 256}", "11:33: exit must be at most 255, not 256"),
    (
        "finish: {name: c}",
        "finish: {name: c, signal: TERM}",
        "11:35: signal must be a signal's name such as SIGTERM, not 'TERM'",
    ),
    ("argv: [cat]", "argv: cat", "10:32: argv must be a list, not 'cat'"),
    ("argv: [cat]", "argv: []", "10:32: argv is empty"),
    (
        "argv: [cat]",
        "argv: [cat, 5]",
        "10:38: an item of argv must be text, not the number 5: put it in quotes",
    ),
    ("count: 2", "count: {default: 2, vsock: 0}", "8:32: count of vsock must be at least 1, not 0"),
    (
        "count: 2",
        "count: 2\n    connection: shard",
        "9:17: unknown connection 'shard'; allowed: own, shared; did you mean 'shared'?",
    ),
    (
        "title: T",
        "title: T\nworkload: [ping: {}]",
        "2:1: each group has its own 'workload'; this one is nobody's",
    ),
    (
        "  one: {",
        "  One: {",
        "5:3: a key of clients must be a name: small letters, digits and -, at most 32, not 'One'",
    ),
    ("  one: {", "  served: {", "5:3: a group cannot be called 'served': the word is taken"),
    ("  one: {", "  default: {", "5:3: a group cannot be called 'default': the word is taken"),
    (
        "one: {served: 1}",
        "one: {serve: 1}",
        f"13:17: unknown word 'serve'; allowed: {WORDS}; did you mean 'served'?",
    ),
    (
        "one: {served: 1}",
        "one: 1",
        f"13:16: expect of vsock of one must be a mapping of counts, not the number 1; allowed: {WORDS}",
    ),
    (", two: {served: 2}", "", "13:10: expect of vsock says nothing of group 'two'"),
    (
        "{one: {served: 1}",
        "{served: 3, one: {served: 1}",
        "13:22: expect of vsock counts either all clients together or each group, not both",
    ),
    (
        ", two: {served",
        ", tow: {served",
        f"13:29: unknown word or group 'tow'; allowed: {KEYS}, one, two; did you mean 'two'?",
    ),
]


@pytest.mark.parametrize(("old", "new", "says"), IN_GROUPS, ids=[new[:30] for _, new, _ in IN_GROUPS])
def test_one_mistake_in_groups(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GROUPS
    assert mistakes(tmp_path, GROUPS.replace(old, new, 1)) == [says]


def test_a_sequential_group_cannot_wait_for_a_later_one(tmp_path: Path) -> None:
    text = GROUPS.replace("    after: one\n", "").replace("title: T", "title: T\nschedule: sequential")
    says = "6:39: group 'two' comes later in a sequential schedule, so it would be waited for for ever"
    assert mistakes(tmp_path, text.replace("ping: {}", "wait-for: {group: two, event: left}")) == [says]


def test_a_ring_of_three_is_named_once(tmp_path: Path) -> None:
    text = GROUPS.replace("after: one", "after: three").replace(
        "  one: {workload", "  three: {after: one, workload: [{ping: {}}]}\n  one: {after: two, workload"
    )
    text = text.replace("{one: {", "{three: {served: 1}, one: {")
    assert mistakes(tmp_path, text) == ["5:18: groups wait for each other: three for one for two for three"]


def test_the_guest_opens_no_connection_over_a_serial_port(tmp_path: Path) -> None:
    text = GROUPS.replace("links: [vsock]", "links: [vsock, isa-serial]").replace(
        "one: {workload", "one: {initiated: guest, workload"
    )
    text += "  isa-serial: {one: {served: 1}, two: {served: 2}}\n"
    what = "the guest cannot connect over link 'isa-serial': a serial port knows no connections"
    assert mistakes(tmp_path, text) == [f"5:20: {what}"]


@pytest.mark.parametrize("step", ["connect: {to: nobody}", "messages: {bytes: 1}", "shutdown: {bytes: 1}"])
def test_a_serial_port_has_no_sockets(tmp_path: Path, step: str) -> None:
    op = step.split(":")[0]
    what = f"'{op}' cannot be done over link 'virtio-serial': a serial port has no sockets"
    assert mistakes(tmp_path, FLAT.replace("echo: {bytes: 1MiB}", step)) == [f"6:5: {what}"]


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


@pytest.mark.parametrize(("old", "new", "says"), FAULTS, ids=[new[:30] for _, new, _ in FAULTS])
def test_one_mistake_with_a_fault(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in FAULT
    assert mistakes(tmp_path, FAULT.replace(old, new, 1)) == [says.format(**TOLD)]


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


def test_cids_are_dialled_on_vsock_only(tmp_path: Path) -> None:
    text = GROUPS.replace("ping: {}", "connect: {to: nobody}").replace("vsock", "hybrid-vsock")
    what = "a CID is dialled on link 'vsock' only, not on 'hybrid-vsock'"
    assert mistakes(tmp_path, text) == [f"5:35: {what}"]


def test_a_guest_calls_nobody_over_a_serial_port(tmp_path: Path) -> None:
    text = FAULT.replace("vsock", "serial-proxy").replace("while: idle", "while: listening")
    what = "'listening' is for vsock: a guest connects over no serial port"
    assert mistakes(tmp_path, text) == [f"9:29: {what}"]
