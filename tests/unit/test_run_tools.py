"""Clients that are tools: each end they can have; our scenarios with them, against servers without a VM."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.judge import judge
from harness.model.deadline import Deadline, until
from harness.model.plan import Plan
from harness.model.program import ProgramName, ToolPlan
from harness.model.program import Tool as ToolName
from harness.model.steps import Copy, Exchange, Leave, Moment, Step, WaitFor
from harness.model.trace import What
from harness.run.control import Tool
from harness.run.nursery import Nursery
from harness.run.toolclient import pattern
from tests.unit import traces
from tests.unit.hangs import HANGS
from tests.unit.processes import alive
from tests.unit.running import BRISK, ends, group, of, only, plan, run

CLIENT = """
import socket, sys, threading
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    def out():
        while data := sock.recv(4096):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    threading.Thread(target=out, daemon=True).start()
    while line := sys.stdin.buffer.readline():
        sock.sendall(line)
"""
"""As socat does it; it is not installed everywhere."""

DISK = """
import sys
sys.path.insert(0, sys.argv[1])
from harness.run.toolclient import pattern
disk = bytearray(pattern(0, 1 << 20))
disk[int(sys.argv[2])] ^= 1
sys.stdout.buffer.write(disk)
"""
PATIENT = 100.0
"""Nobody is called waiting before the test's own time is up."""

ROOT = str(Path(__file__).resolve().parents[2])
WHOLE = str((1 << 20) - 1)
"""Where nobody looks: no copy of these tests goes so far."""

SAY = Exchange(say="a\n", hear="a\n")
ECHO = Tool(("cat",))
SILENT = Tool(("sleep", "1000"))


def shell(words: str) -> Tool:
    return Tool(("sh", "-c", words))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def answer(peer: socket.socket) -> None:
    """qemu-ga's guest-sync, for one client until it leaves."""
    with contextlib.suppress(OSError), peer, peer.makefile("rwb") as lines:
        for line in lines:
            number = line.rsplit(b" ", 1)[1].rstrip(b"}\n")
            lines.write(b'{"return": %s}\n' % number)
            lines.flush()


@contextlib.contextmanager
def agent(path: Path, *, many: bool) -> Iterator[Tool]:
    """Serves one client after the other, as qemu-ga does, or `many` at once; gives what speaks to it."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                if many:
                    threading.Thread(target=answer, args=(peer,), daemon=True).start()
                else:
                    answer(peer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield Tool((sys.executable, "-I", "-S", "-c", CLIENT, str(path)))
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def seen(nursery: Nursery, tool: Tool, *steps: Step) -> str:
    """How a client ends that is `tool`."""
    trace = run(plan(group("a", *steps)), "/nowhere", nursery, slowness=PATIENT, tools={"a": tool})
    return next(iter(ends(trace)))


@pytest.mark.parametrize(
    ("tool", "end", "slowness"),
    [
        (ECHO, "served", PATIENT),
        (SILENT, "waiting", BRISK),
        (shell("read line; echo b; exec cat"), "wrong", PATIENT),
        (shell("echo E connect: Connection reset by peer >&2; exit 1"), "refused", PATIENT),
        (shell("echo E unknown option >&2; exit 1"), "lost", PATIENT),
        (shell("read line; echo a"), "lost", PATIENT),
    ],
)
def test_each_end_that_a_tool_can_have(nursery: Nursery, tool: Tool, end: str, slowness: float) -> None:
    beside = group("beside", SAY)  # holds, so that the other is waiting when it was answered often enough
    what = plan(beside, group("a", SAY, SAY, after="beside"))
    trace = run(what, "/nowhere", nursery, slowness=slowness, tools={"beside": ECHO, "a": tool})
    assert ends(trace, "a/") == {end: 1}
    assert ends(trace, "beside/") == {"served": 1}


def test_what_it_complains_of_is_in_the_trace(nursery: Nursery) -> None:
    what = plan(group("a", SAY))
    refuses = shell("echo E connect: Connection refused >&2; exit 1")
    refused = only(run(what, "/nowhere", nursery, tools={"a": refuses}), "a/0", What.REFUSED)
    assert refused.detail == {"errno": "ECONNREFUSED", "error": "E connect: Connection refused"}
    lost = only(run(what, "/nowhere", nursery, tools={"a": shell("echo oh >&2; exit 3")}), "a/0", What.LOST)
    assert lost.detail["error"] == "exit code 3: oh"


def test_a_tool_ends_with_its_client_in_whatever_way_that_ends(nursery: Nursery, tmp_path: Path) -> None:
    def told(name: str) -> Tool:
        return shell(f"echo $$ > {tmp_path / name}; exec cat")

    what = plan(group("leaves", SAY, Leave()), group("holds", SAY, after="leaves"))
    trace = run(what, "/nowhere", nursery, tools={name: told(name) for name in ("leaves", "holds")})
    assert [event.what for event in of(trace, "leaves/0")][-1] is What.LEFT
    assert [event.what for event in of(trace, "holds/0")][-1] is What.ENDED
    for name in ("leaves", "holds"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: not alive(pid), Deadline(HANGS), "the tool's end")  # type: ignore[misc]


def test_a_copy_goes_no_further_than_it_is_asked_for(nursery: Nursery) -> None:
    disk = Tool((sys.executable, "-c", DISK, ROOT, "4100"))
    assert seen(nursery, disk, Copy(bytes=64), Copy(bytes=4036)) == "served"
    assert seen(nursery, disk, Copy(bytes=64), Copy(bytes=4037)) == "wrong"


def test_a_tool_waits_for_other_groups_as_any_client_does(nursery: Nursery) -> None:
    parked = [WaitFor(group=name, event=Moment.PARKED) for name in ("a", "b")]
    what = plan(group("a", SAY, parked[1], SAY, count=2), group("b", SAY, parked[0], SAY))
    trace = run(what, "/nowhere", nursery, tools={"a": ECHO, "b": ECHO})
    assert ends(trace) == {"served": 3}


def test_the_pattern_is_nbdkits() -> None:
    assert pattern(8, 24) == bytes([0] * 7 + [8] + [0] * 7 + [16])
    assert pattern(15, 18) == bytes([8, 0, 0])
    assert pattern(1 << 20, (1 << 20) + 8) == (1 << 20).to_bytes(8, "big")


def differences(what: Plan, tool: Tool, nursery: Nursery, *, slowness: float = PATIENT) -> tuple[str, ...]:
    """What the judge says of a plan of ours whose tools are all `tool`."""
    tools = {one.name: tool for one in what.groups}
    return judge(what, run(what, "/nowhere", nursery, slowness=slowness, tools=tools)).differences


QEMU_GA = traces.plan("multiple-clients-qemu-ga", "virtio-serial")


def test_an_agent_for_one_serves_all_in_turn(nursery: Nursery, tmp_path: Path) -> None:
    with agent(tmp_path / "s", many=False) as tool:
        assert differences(QEMU_GA, tool, nursery, slowness=BRISK) == ()


def test_an_agent_for_many_is_not_taken_for_one(nursery: Nursery, tmp_path: Path) -> None:
    with agent(tmp_path / "s", many=True) as tool:
        assert "waited 0 of 4, expected 4" in differences(QEMU_GA, tool, nursery)[0]


NBDKIT = traces.plan("multiple-clients-nbdkit", "vsock")


def test_whole_copies_pass_and_one_with_a_wrong_byte_does_not(nursery: Nursery) -> None:
    assert differences(NBDKIT, ECHO_DISK, nursery) == ()
    torn = Tool((sys.executable, "-c", DISK, ROOT, "500000"))
    found = differences(NBDKIT, torn, nursery)[0]
    assert "served 0 of 2, expected 2; first: here/" in found or "first: there/" in found
    assert "read wrong data in step 3 (copy)" in found


ECHO_DISK = Tool((sys.executable, "-c", DISK.replace("disk[int(sys.argv[2])] ^= 1\n", ""), ROOT))


def test_a_server_that_lets_in_one_copy_at_a_time_does_not(nursery: Nursery, tmp_path: Path) -> None:
    queue = shell(f'exec 9> {tmp_path / "lock"}; flock 9; exec "$0" -c "$1" "$2"')
    queue = msgspec.structs.replace(queue, argv=(*queue.argv, *ECHO_DISK.argv[:1], *ECHO_DISK.argv[2:]))
    found = differences(NBDKIT, queue, nursery, slowness=0.1)
    assert any("waiting" in one for one in found)


def test_sessions_that_say_their_own_pass_and_mixed_ones_do_not(nursery: Nursery) -> None:
    sshd = traces.plan("multiple-clients-sshd", "vsock")
    assert differences(sshd, ECHO, nursery) == ()
    mixed = shell("read line; echo over there; exec cat")
    assert "group here: served 0 of 2, expected 2" in differences(sshd, mixed, nursery)[0]


def test_groups_of_tools_go_into_the_plan() -> None:
    assert [one.tool for one in NBDKIT.groups] == [ToolPlan(name=ToolName.NBDCOPY, to=ProgramName.NBDKIT)] * 2
    assert NBDKIT.spoken_to is NBDKIT.programs[0]
    data = msgspec.json.encode(NBDKIT)
    assert msgspec.json.decode(data, type=Plan) == NBDKIT
