"""Expectations that could never be met, or never fail, are mistakes of the file."""

from __future__ import annotations

from pathlib import Path

from harness.model.scenario import load
from tests.unit.mistakes import Mistake, each, says_only

FAULT = """\
title: T
links: [vsock]
fault: {kind: qemu-kill}
clients:
  one: {count: 2, workload: [{connect: {to: no-vm, fails: EPIPE}}, {meet-fault: {while: idle, within: 4}}]}
  two: {workload: [{open-device: {}}]}
expect:
  vsock:
    one: {served: 2}
    two: {served: 1}
    facts: {one: {sees: ECONNRESET, then: [eof, gone], containers: gone}, two: {second-open: EBUSY}}
    noticed: {one: {host: 0.2, guest: 0.3}}
"""

ERRNO = "an errno's name such as EPIPE"

MISTAKES = [
    ("EPIPE", "EPIP", f"5:59: fails must be {ERRNO}, not 'EPIP'; did you mean 'EPIPE'?"),
    ("EPIPE", "econnreset", f"5:59: fails must be {ERRNO}, not 'econnreset'; did you mean 'ECONNRESET'?"),
    ("EPIPE", "[EPIPE, EWHAT]", f"5:67: an item of fails must be {ERRNO}, not 'EWHAT'"),
    (
        "EPIPE",
        "{default: EPIPE, vsock: ENOTSUP}",
        f"5:83: fails of vsock must be {ERRNO}, not 'ENOTSUP'; did you mean 'EOPNOTSUPP'?",
    ),
    (
        "sees: ECONNRESET",
        "sees: ECONRESET",
        "11:25: sees is never 'ECONRESET'; allowed: nothing, eof, called, {errno}; "
        "did you mean 'ECONNRESET'?",
    ),
    (
        "[eof, gone]",
        "[eof, servd]",
        "11:49: then is never 'servd'; allowed: gone, served, silent, eof, {errno}; did you mean 'served'?",
    ),
    (
        "sees: ECONNRESET",
        'sees: {linux: "6.7", before: EPIPE, since: [ENODEV, noting]}',
        "11:71: sees is never 'noting'; allowed: nothing, eof, called, {errno}; did you mean 'nothing'?",
    ),
    (
        "sees: ECONNRESET",
        'sees: {linux: "6.7", before: EPIPE, since: {linux: "7.2", before: eof, since: EHOSTUNREACHABLE}}',
        "11:97: sees is never 'EHOSTUNREACHABLE'; allowed: nothing, eof, called, {errno}; "
        "did you mean 'EHOSTUNREACH'?",
    ),
    (
        "sees: ECONNRESET",
        "sees: served",
        "11:25: sees is never 'served'; allowed: nothing, eof, called, {errno}",
    ),
    (
        "containers: gone",
        "containers: 2 runing",
        "11:68: containers is never '2 runing'; allowed: gone, a number as '2 running'",
    ),
    (
        "second-open: EBUSY",
        "second-open: open",
        "11:94: second-open is never 'open'; allowed: opened, no-device, {errno}; did you mean 'opened'?",
    ),
    (
        "one: {served: 2}",
        "one: {served: {min: 0}, waiting: {min: 0}, refused: {min: 0}, garbled: {min: 0}, stale: {min: 0}, "
        "lost: {max: 2}}",
        "9:10: expect of vsock of one allows every end to every client: nothing would ever be red",
    ),
    (
        "host: 0.2",
        "host: 9999",
        "12:27: host: 9999 s could never be exceeded: after 4 s nobody looks any more",
    ),
    (
        "guest: 0.3",
        "guest: 13.5",
        "12:39: guest: 13.5 s could never be exceeded: after 13 s nobody looks any more",
    ),
]


@each(MISTAKES)
def test_one_mistake(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, FAULT, mistake, errno=ERRNO)


def test_what_can_be_seen_can_be_said(tmp_path: Path) -> None:
    """Bounds at the limit, and a number of containers."""
    path = tmp_path / "x.yaml"
    said = FAULT.replace("host: 0.2, guest: 0.3", "host: 4, guest: 13").replace(
        "containers: gone", 'containers: "2 running"'
    )
    path.write_text(said.replace("{served: 2}", "{served: {min: 0}, lost: {min: 0}}"))
    load(path)
