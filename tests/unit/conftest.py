"""Fixtures of several test files: agents to talk to, and folders of a run."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import mends
from harness.host.runfolder import RunFolder
from harness.run.nursery import Nursery
from tests.unit import chromium
from tests.unit.agents import serial_like_agent, unix_agent
from tests.unit.fake_programs import Programs
from tests.unit.fake_vm import FakeVm
from tests.unit.machines import FakeLease, Starter
from tests.unit.meetings import Agent
from tests.unit.rerunning import Project

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # so a shell starts what is in the background, and all that comes of it; some tests are about Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has it, in what is said to users."""
    monkeypatch.setattr(mends, "has_sudo", lambda: True)


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    """An agent for many clients, which each test leaves without any."""
    with unix_agent() as path:
        yield path


@pytest.fixture
def serial() -> Iterator[Path]:
    """An agent on one serial port."""
    with serial_like_agent() as path:
        yield path


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where clients' processes come from."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def folder() -> Iterator[RunFolder]:
    """The folder of a run: its sockets and processes."""
    with RunFolder.create() as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder for runs whose hosts fail."""
    return Project(tmp_path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A PATH of fake programs."""
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", str(made.folder))
    return made


@pytest.fixture
def lease() -> Iterator[FakeLease]:
    """A CID to plug in."""
    with contextlib.closing(FakeLease()) as made:
        yield made


@pytest.fixture
def start(folder: RunFolder, tmp_path: Path) -> Starter:
    """Starts machines with a fake QEMU."""
    return Starter(folder, tmp_path / "deep" / "logs")


@pytest.fixture
def vm() -> Iterator[FakeVm]:
    """A VM that only writes down what it is told; its agent is real."""
    with unix_agent() as path:
        yield FakeVm(path)


@pytest.fixture
def nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans whose clients never connect: the end of none is waited for."""
    monkeypatch.setattr("harness.run.aftermath._ENDS_IN_GUEST", frozenset())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """One that the test may treat as it likes."""
    agent = Agent(tmp_path)
    with agent.process:
        yield agent
        agent.process.kill()


@pytest.fixture
def ssh_server() -> Iterator[int]:
    """A port where something says what SSH servers say."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        peer.sendall(b"SSH-2.0-fake\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A tab of a real browser, where one is installed."""
    browser = chromium.found()
    if browser is None:
        pytest.skip(f"browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.page(browser, tmp_path_factory.mktemp("profile")) as made:
        yield made
