"""Scenario files with programs and tools: each mistake is one error, at its very place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.mistakes import mistakes

TOOLS = """\
title: T
claim: multiple-clients
links: [vsock, isa-serial]
programs:
  qemu-ga:
    run: [/usr/sbin/qemu-ga]
    port: 7777
clients:
  one:
    tool: {name: socat, to: qemu-ga}
    workload:
      - exchange: {say: a, hear: a}
expect:
  vsock: {served: 1}
  isa-serial: {served: 1}
"""
NAMES = "nbdkit, qemu-ga, socat, sshd"

WITH_TOOLS = [
    (
        "qemu-ga:\n",
        "qemu-gs:\n",
        f"5:3: unknown program 'qemu-gs'; allowed: {NAMES}; did you mean 'qemu-ga'?",
    ),
    (
        "to: qemu-ga",
        "to: qemuga",
        f"10:29: unknown program 'qemuga'; allowed: {NAMES}; did you mean 'qemu-ga'?",
    ),
    (
        "name: socat",
        "name: scat",
        "10:18: unknown tool 'scat'; allowed: socat, nbdcopy, ssh; did you mean 'socat'?",
    ),
    ("[/usr/sbin/qemu-ga]", "[]", "6:10: run is empty"),
    (
        "[/usr/sbin/qemu-ga]",
        "{vsock: [a]}",
        "6:5: run has neither a value for link 'isa-serial' nor a default",
    ),
    ("7777", "0", "7:11: port must be at least 1, not 0"),
    ("7777", "4294967295", "7:11: port must be at most 4294967294, not 4294967295"),
    ("7777", "1024", "7:11: port 1024 is the agent's"),
    ("    port: 7777\n", "", "5:3: qemu-ga has no 'port' by which it is reached on link 'vsock'"),
    ("to: qemu-ga", "to: sshd", "10:29: sshd is not in 'programs'; allowed: qemu-ga"),
    (
        "    port: 7777\n",
        "    port: 7777\n  sshd: {port: 22}\n",
        "8:16: sshd has a 'port' but is not 'run'",
    ),
    (
        "    port: 7777\n",
        "    port: 7777\n  nbdkit: {run: [nbdkit], port: 7777}\n",
        "8:33: port 7777 is qemu-ga's",
    ),
    (
        "- exchange: {say: a, hear: a}",
        "- ping: {}",
        "12:9: socat cannot do the step 'ping'; allowed: exchange, ",
    ),
    ("hear: a", 'hear: ""', "12:34: hear must be text of 1 to 4096 characters, not ''"),
    (
        "    tool: {name: socat, to: qemu-ga}\n",
        "",
        "11:9: 'exchange' is done by a tool: give the group a 'tool'; ",
    ),
    (
        "    workload:\n",
        "    connection: shared\n    workload:\n",
        "11:5: 'connection' is for the agent's clients, not for a tool",
    ),
    (
        "name: socat",
        "name: ssh",
        "3:16: ssh of group 'one' does not speak over link 'isa-serial'; allowed: vsock",
    ),
]


@pytest.mark.parametrize(("old", "new", "says"), WITH_TOOLS, ids=[new[:30] for _, new, _ in WITH_TOOLS])
def test_one_mistake_with_tools(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TOOLS
    assert mistakes(tmp_path, TOOLS.replace(old, new, 1))[0].startswith(says)


def test_one_program_has_a_serial_port(tmp_path: Path) -> None:
    two = (
        TOOLS.replace("vsock, isa", "isa")
        .replace("  vsock: {served: 1}\n", "")
        .replace("served: 1", "served: 2")
    )
    two = two.replace("clients:\n", "  socat: {run: [socat]}\nclients:\n", 1).replace("    port: 7777\n", "")
    group = "  two: {tool: {name: socat, to: socat}, workload: [{exchange: {say: a, hear: a}}]}\n"
    assert mistakes(tmp_path, two.replace("clients:\n", f"clients:\n{group}", 1)) == [
        "5:3: on link 'isa-serial' one program has a port: socat, so not qemu-ga"
    ]
