"""Warm interpreters: forks of a server that has imported already, and what happens where there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import execnet
import pytest

from harness.lab import warm
from harness.model.deadline import Deadline, until
from tests.unit.hangs import HANGS


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Servers `digest` and `packages` in it; ended afterwards."""
    sockets = tmp_path / "w"
    try:
        yield sockets
    finally:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                ours = str(sockets).encode() in path.read_bytes()
            except OSError:
                continue
            if ours:
                os.kill(int(path.parent.name), signal.SIGKILL)


def start(folder: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", warm.__file__, "serve", str(folder), name, "colorsys"],
        timeout=HANGS,
        check=True,
    )
    assert done.returncode == 0


def run(
    folder: Path, code: str, *, digest: str = "digest", stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-I",
        "-S",
        warm.__file__,
        "fork",
        str(folder),
        digest,
        sys.executable,
        "-c",
        code,
    ]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=HANGS, check=False)


SHOW = "import sys; print('warm' if 'colorsys' in sys.modules else 'cold', __name__, sys.argv, input())"


def test_code_runs_in_a_fork_with_the_clients_streams_and_folder(folder: Path, tmp_path: Path) -> None:
    start(folder, "digest")
    assert run(folder, SHOW, stdin="hello\n").stdout == "warm __main__ ['-c'] hello\n"
    argv = [sys.executable, "-I", "-S", warm.__file__, "fork", str(folder), "digest", "x", "-c"]
    code = "import os; print(os.getcwd())"
    there = subprocess.run([*argv, code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(tmp_path)


def test_other_code_is_never_taken_for_it_but_packages_are(folder: Path) -> None:
    start(folder, "digest")
    assert run(folder, SHOW, digest="other", stdin="x\n").stdout.startswith("cold")
    start(folder, warm.PACKAGES)
    assert run(folder, SHOW, digest="other", stdin="x\n").stdout.startswith("warm")


def test_without_a_server_the_program_itself_is_run(tmp_path: Path) -> None:
    assert run(tmp_path / "none", SHOW, stdin="x\n").stdout == "cold __main__ ['-c'] x\n"


def test_what_fails_shows_its_traceback_and_the_server_goes_on(folder: Path) -> None:
    start(folder, "digest")
    assert "ZeroDivisionError" in run(folder, "1 / 0").stderr
    assert run(folder, SHOW, stdin="x\n").stdout.startswith("warm")


@pytest.mark.parametrize(
    ("error", "told"), [("OSError(5, 'a bug')", "OSError: [Errno 5] a bug"), ("BrokenPipeError()", "")]
)
def test_what_fails_of_a_file_or_of_who_left_is_no_servers_end(folder: Path, error: str, told: str) -> None:
    start(folder, "digest")
    said = run(folder, f"raise {error}").stderr
    assert said.rpartition("\n")[0].rpartition("\n")[2] == told
    assert "accept" not in said
    assert run(folder, SHOW, stdin="x\n").stdout.startswith("warm")


def test_a_client_that_is_killed_takes_its_fork_along_by_the_end_of_its_input(folder: Path) -> None:
    start(folder, "digest")
    argv = [sys.executable, "-I", "-S", warm.__file__, "fork", str(folder), "digest", "x", "-c"]
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen([*argv, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        client.kill()
    until(lambda: not Path(f"/proc/{pid}").exists(), Deadline(HANGS), "the fork's end")


def test_execnet_gets_a_worker_out_of_it(folder: Path) -> None:
    start(folder, "digest")
    client = f"{sys.executable} -I -S {warm.__file__} fork {folder} digest {sys.executable}"
    group = execnet.Group()
    gateway = group.makegateway(f"popen//python={client}")
    try:
        channel = gateway.remote_exec("import sys; channel.send('colorsys' in sys.modules)")
        assert channel.receive(30) is True
    finally:
        group.terminate(5)


def test_a_server_has_nothing_of_ours_but_what_it_was_told(folder: Path) -> None:
    start(folder, "digest")
    code = "import sys; print([name for name in sys.modules if name.split('.')[0] in ('harness', 'pytest')])"
    assert run(folder, code).stdout == "[]\n"


def test_who_leaves_in_the_middle_of_asking_leaves_no_descriptor_behind() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            socket.send_fds(ours, [(100).to_bytes(4, "big")], [0, 1, 2])
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ConnectionError):
            warm._request(theirs)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
