"""Scenario files with groups of clients: each mistake is one error, at its very place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.link import Link
from harness.model.scenario import load
from harness.model.steps import Connect, Target
from tests.unit.mistakes import FLAT, GROUPS, KEYS, WORDS, Mistake, each, mistakes, says_only

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
        "5:20: unknown initiated 'gest'; allowed: host, guest, both; did you mean 'guest'?",
    ),
    (
        "one: {workload",
        "one: {initiated: both, workload",
        "5:20: 'both' needs two clients at least: 1 on link 'vsock'",
    ),
    ("ping: {}", "messages: {bytes: 64KiB}", "5:39: bytes must be 1 to 32768 (32KiB), not 65536"),
    (
        "ping: {}",
        "connect: {to: nowhere}",
        "5:35: unknown target 'nowhere'; allowed: listening, refusing, no-vm, nobody",
    ),
    (
        "ping: {}",
        "connect: {to: nobody, fails: reset}",
        "5:50: fails must be an errno's name such as EPIPE, not 'reset'; did you mean 'ENETRESET'?",
    ),
    (
        "ping: {}",
        'connect: {to: no-vm, fails: {vsock: {linux: "7.2", before: reset, since: EPIPE}}}',
        "5:80: before must be an errno's name such as EPIPE, not 'reset'; did you mean 'ENETRESET'?",
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
    ("argv: [cat]", "argv: cat", "10:32: argv must be a list, not 'cat': write [cat]"),
    (
        "argv: [cat]",
        "argv: uname -a",
        "10:32: argv must be a list, not 'uname -a': write [uname, -a]",
    ),
    (
        "argv: [cat]",
        "argv: sh -c 'kill 1; true'",
        "10:32: argv must be a list, not \"sh -c 'kill 1; true'\": write [sh, -c, 'kill 1; true']",
    ),
    ("argv: [cat]", "argv: echo '", '10:32: argv must be a list, not "echo \'": write ["echo \'"]'),
    ("argv: [cat]", "argv: 5", "10:32: argv must be a list, not the number 5"),
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


@each(IN_GROUPS)
def test_one_mistake_in_groups(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, GROUPS, mistake)


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


def test_cids_are_dialled_on_vsock_only(tmp_path: Path) -> None:
    text = GROUPS.replace("ping: {}", "connect: {to: nobody}").replace("vsock", "hybrid-vsock")
    what = "a CID is dialled on link 'vsock', and 'nobody' by the guest on 'hybrid-vsock'"
    assert mistakes(tmp_path, text) == [f"5:35: {what}"]
    by_guest = text.replace("one: {workload", "one: {initiated: guest, workload")
    assert mistakes(tmp_path, by_guest.replace("nobody", "no-vm")) == [f"5:53: {what}"]
    path = tmp_path / "x.yaml"
    path.write_text(by_guest)
    assert load(path).for_link(Link.HYBRID_VSOCK).groups[0].workload == (Connect(to=Target.NOBODY),)
