"""A host that hangs: its server is stopped, so its connections stay and nothing answers any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from harness.lab import keys, ssh
from harness.lab.address import Address
from harness.lab.deploy import REPOSITORY
from harness.lab.ssh import Ssh
from harness.model.deadline import Deadline
from harness.model.errors import InfrastructureError
from tests.unit.hangs import HANGS

SERVER = [sys.executable, "-m", "tests.unit.ssh_server"]


class Host:
    """A server that can be stopped, and a connection to it."""

    def __init__(self, folder: Path) -> None:
        pair = keys.ensure(folder)
        self.process = subprocess.Popen(
            [*SERVER, str(folder)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        address = Address(host="127.0.0.1", port=port, key=pair.user, host_key=pair.host_public)
        self.ssh = Ssh.connect(address)

    def hang(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path / "keys")
    monkeypatch.setattr(ssh, "_PATIENCE", 0.3)
    monkeypatch.setattr(ssh, "slowness", lambda: 1.0)
    yield made
    made.ssh.close()
    made.process.kill()
    made.process.communicate()


HERE = PurePosixPath("/nowhere")
ASKED: dict[str, Callable[[Ssh], object]] = {
    "run": lambda host: host.run(["true"]),
    "push": lambda host: host.push(REPOSITORY, HERE, [Path("Makefile")]),
    "place": lambda host: host.place(REPOSITORY / "scenarios", HERE),
    "fetch": lambda host: host.fetch(HERE, Path("/nowhere")),
    "held_folder": lambda host: host.held_folder(HERE).__enter__(),
}


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_waits_for_ever(host: Host, asked: str) -> None:
    host.hang()
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"no answer in 0 s while"):
        ASKED[asked](host.ssh)
    assert time.monotonic() - began < 5
    with pytest.raises(InfrastructureError):  # and nothing is asked of it any more
        host.ssh.run(["true"])


def test_a_folder_whose_host_hangs_is_left(host: Host, tmp_path: Path) -> None:
    with host.ssh.held_folder(PurePosixPath(tmp_path / "work")):
        host.hang()
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_a_command_may_have_more_time_or_less(host: Host) -> None:
    assert host.ssh.run(["sh", "-c", "sleep 0.6; echo done"], deadline=Deadline(HANGS)) == "done\n"
    with pytest.raises(InfrastructureError, match="while it ran sleep"):
        host.ssh.run(["sleep", "5"], deadline=Deadline(0.1))


@pytest.mark.parametrize("asked", ASKED)
def test_a_connection_that_broke_is_our_infrastructures_fault(host: Host, asked: str) -> None:
    host.process.kill()
    host.process.wait()
    with pytest.raises(InfrastructureError, match=r"connection lost while|no answer"):
        ASKED[asked](host.ssh)


def test_a_command_whose_connection_breaks_did_not_just_end(host: Host) -> None:
    with pytest.raises(InfrastructureError, match="connection lost while it ran sh"):
        host.ssh.run_unchecked(["sh", "-c", f"kill -9 {host.process.pid}; sleep 1"], deadline=Deadline(HANGS))


SILENT = """
import socket
from harness.lab import ssh
from harness.lab.address import Address
ssh._BANNER_WITHIN = 0.3
ssh.slowness = lambda: 1.0
with socket.create_server(("127.0.0.1", 0)) as server:
    try:
        ssh.Ssh.connect(Address(host="127.0.0.1", port=server.getsockname()[1], user="me"))
    except ssh.InfrastructureError as error:
        print(error.summary)
"""


def test_a_server_that_says_nothing_is_our_error_alone_and_soon() -> None:
    """In a process of its own: pytest has handlers of its own for all that is logged."""
    done = subprocess.run(
        [sys.executable, "-c", SILENT], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "no SSH: Error reading SSH protocol banner" in done.stdout
    assert done.stderr == ""
