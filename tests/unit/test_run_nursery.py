"""Client processes begin cheaply, end with whoever started them, and know nothing of its ``__main__``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.model.deadline import Deadline, until
from harness.model.errors import InfrastructureError
from harness.model.steps import Ping
from harness.model.trace import Event, What
from harness.run import control
from harness.run.nursery import Nursery
from tests.unit.agents import serial_like_agent, unix_agent
from tests.unit.hangs import HANGS
from tests.unit.processes import alive
from tests.unit.running import endpoint, ends, group, kill, pids, plan, run

ROOT = Path(__file__).resolve().parents[2]

_SCRIPT = """
import asyncio, os, sys
open(sys.argv[2], "a").write("imported\\n")
from harness.model.deadline import Deadline
from harness.model.steps import Ping
from harness.model.trace import Event, What
from harness.run.coordinator import run_plan
from harness.run.nursery import Nursery
from tests.unit.processes import alive
from tests.unit.running import endpoint, group, plan

def on_event(event):
    if event.what is What.STARTED:
        print(event.detail["pid"], flush=True)
    if event.what is What.HOLDING:
        print("holding", flush=True)

with Nursery() as nursery:
    print(nursery.pid, flush=True)
    asyncio.run(run_plan(
        plan(group("client", Ping(), count=3)), endpoint(sys.argv[1]),
        deadline=Deadline(60), slowness=100.0, on_event=on_event, nursery=nursery,
    ))
"""


class Harness:
    """Another process that runs clients: the first is served and holds, two wait."""

    def __init__(self, path: Path, tmp_path: Path, *, as_file: bool) -> None:
        self.notes = tmp_path / "notes"
        script = tmp_path / "script.py"
        script.write_text(_SCRIPT)
        with script.open("rb") as stdin:
            self.process = subprocess.Popen(
                [sys.executable, str(script) if as_file else "-", str(path), str(self.notes)],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().strip() for _ in range(5)]
        assert b"holding" in lines, lines
        self.pids = [int(line) for line in lines if line != b"holding"]

    def all_gone(self) -> bool:
        return not [pid for pid in self.pids if alive(pid)]


@pytest.mark.parametrize("victim", ["harness", "forker"])
def test_sigkill_leaves_nobody(tmp_path: Path, victim: str) -> None:
    with serial_like_agent() as path:
        harness = Harness(path, tmp_path, as_file=True)
        with harness.process as process:
            assert all(alive(pid) for pid in harness.pids)
            kill(process.pid if victim == "harness" else harness.pids[0])
            until(harness.all_gone, Deadline(HANGS), "all gone", every=0.01)
            process.communicate(timeout=HANGS)
    assert harness.notes.read_text() == "imported\n", "no child runs the caller's __main__"


def test_a_client_ends_with_its_pipe_in_the_middle_of_anything(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, Nursery() as nursery:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with nursery.spawn() as pipe:
            pid, pidfd = _born(pipe)
            os.close(pidfd)
            begin = control.Begin(
                client="client/0",
                scenario="unit",
                steps=(Ping(),),
                endpoint=endpoint(tmp_path / "s"),
                role=control.Role.ALONE,
                leave=False,
                slowness=1.0,
            )
            control.send(pipe, begin)
            seen = [control.receive_report(pipe)[0] for _ in range(4)]
            assert isinstance(seen[-1], control.Saw)
            assert seen[-1].event.what is What.ASKED
        until(lambda: not alive(pid), Deadline(HANGS), "client gone", every=0.01)
        assert alive(nursery.pid)


@pytest.mark.parametrize("as_file", [True, False])
def test_ctrl_c_leaves_nobody_and_only_one_traceback(tmp_path: Path, as_file: bool) -> None:
    with serial_like_agent() as path:
        harness = Harness(path, tmp_path, as_file=as_file)
        with harness.process as process:
            os.killpg(process.pid, signal.SIGINT)
            _, told = process.communicate(timeout=HANGS)
            assert harness.all_gone()
    assert told.count(b"Traceback") <= told.count(b"KeyboardInterrupt"), told.decode()
    assert b"harness/run/client" not in told
    assert b"harness/run/forker.py" not in told


def test_what_is_warm_is_lean() -> None:
    """Pages of all this are held by every client, and its import is waited for on an emulated CPU."""
    code = "import sys, harness.run.forker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pytest", "_pytest", "multiprocessing", "paramiko", "qemu", "ruamel", "rich"}


_FORKER = """
import atexit, sys
from harness.run import clientprocess, forker
atexit.register(print, "over", flush=True)
clientprocess.main = lambda pipe: print("client", flush=True)
forker.main(int(sys.argv[1]))
"""


def test_a_client_does_not_tidy_up_what_is_the_forkers() -> None:
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, "-P", "-c", _FORKER, str(theirs.fileno())]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        theirs,
        subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()], env=env) as forker,
    ):
        with requests:
            for _ in range(2):
                ours, its = control.pair()
                with ours, its:
                    socket.send_fds(requests, [b"\0"], [its.fileno()])
                    its.close()
                    ours.setblocking(True)
                    said = [control.receive_report(ours)[0] for _ in range(3)]
                assert isinstance(said[0], control.Born)
                assert said[1:] == [control.Died(0), None]
        assert forker.stdout is not None
        assert forker.stdout.read().split() == [b"client", b"client", b"over"]


def test_a_client_process_has_only_its_own_descriptors() -> None:
    """Another client's pipe in it would keep that from ending with the coordinator."""
    with Nursery() as nursery:
        pipes = [nursery.spawn() for _ in range(3)]
        try:
            born = [_born(pipe) for pipe in pipes]
            until(
                lambda: [_sockets(pid) for pid, _ in born] == [1, 1, 1],
                Deadline(HANGS),
                "only pipes",
                every=0.01,
            )
        finally:
            for pipe in pipes:
                pipe.close()
            for _, pidfd in born:
                os.close(pidfd)


def _sockets(pid: int) -> int:
    """How many sockets and pidfds a process has open."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            link = str(fd.readlink())
            count += link.startswith("socket:") or "pidfd" in link
    return count


def _born(pipe: socket.socket) -> tuple[int, int]:
    pipe.setblocking(True)
    report, fd = control.receive_report(pipe)
    assert isinstance(report, control.Born)
    return report.pid, fd


def test_closing_ends_clients_in_the_middle_of_anything() -> None:
    nursery = Nursery()
    pipe = nursery.spawn()
    pid, pidfd = _born(pipe)
    os.kill(pid, signal.SIGSTOP)
    nursery.close()
    nursery.close()
    assert not alive(pid)
    assert not alive(nursery.pid)
    pipe.close()
    os.close(pidfd)


def test_without_its_forker_it_says_so() -> None:
    with Nursery() as nursery:
        kill(nursery.pid)
        until(lambda: not alive(nursery.pid), Deadline(HANGS), "forker gone", every=0.01)
        with pytest.raises(InfrastructureError, match="the forker"):
            run(plan(group("client", Ping())), "/nowhere", nursery)


def test_a_forker_killed_midway_is_told_of_each_client() -> None:
    with unix_agent() as path, Nursery() as nursery:
        killed: list[int] = []

        def on_event(event: Event) -> None:
            if event.what is What.ASKED and not killed:
                killed.append(nursery.pid)
                kill(nursery.pid)

        trace = run(plan(group("client", Ping(times=100_000), count=3)), path, nursery, on_event=on_event)
    assert ends(trace) == {"lost": 3}
    lost = [event for event in trace if event.what is What.LOST]
    assert [event.detail["process"] for event in lost] == ["gone with its forker"] * 3


def test_one_nursery_serves_runs_one_after_the_other() -> None:
    with unix_agent() as path, Nursery() as nursery:
        traces = [run(plan(group("client", Ping(), count=2)), path, nursery) for _ in range(3)]
        seen = [pid for trace in traces for pid in pids(trace)]
        assert len(set(seen)) == 6
        children = Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text()
        assert children == "", "all are reaped"


def test_last_words_are_heard_from_one_who_left_a_message_unread() -> None:
    ours, theirs = control.pair()
    with ours:
        with theirs:
            control.send(ours, control.Ping())
            control.send(theirs, control.Died(-9))
        assert control.receive_report(ours)[0] == control.Died(-9)
        assert control.receive_report(ours)[0] is None
