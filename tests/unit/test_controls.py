"""What scenarios/test_controls.py expects of programs behind a link, against servers that do otherwise."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.run.foreign import End, Foreign, crowd, ends, started

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


@pytest.fixture(scope="module")
def controls() -> ModuleType:
    """The scenario module, which is no package's."""
    path = Path(__file__).resolve().parents[2] / "scenarios/test_controls.py"
    spec = importlib.util.spec_from_file_location("scenario_controls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(peer: socket.socket) -> None:
    """qemu-ga's guest-sync, for one client until it leaves."""
    with peer, peer.makefile("rwb") as lines:
        for line in lines:
            number = line.rsplit(b" ", 1)[1].rstrip(b"}\n")
            lines.write(b'{"return": %s}\n' % number)
            lines.flush()


@contextlib.contextmanager
def agent(path: Path, *, many: bool) -> Iterator[None]:
    """Serves one client after the other, as qemu-ga does, or `many` at once."""

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
        yield
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def seen(controls: ModuleType, tmp_path: Path, *, many: bool, slowness: float) -> tuple[Counter[End], int]:
    """What becomes of five clients at once, and how many are served in turn then."""
    with RunFolder.create(tmp_path) as folder, agent(folder.socket("ga"), many=many):

        def dial() -> AbstractContextManager[Foreign]:
            argv = [sys.executable, "-I", "-S", "-c", CLIENT, str(folder.socket("ga"))]
            return started(argv, folder, tmp_path / "log")

        talks = [controls.sync(number) for number in range(1, 6)]
        with crowd(dial, talks, Deadline(60)) as clients:
            found = ends(clients, controls.sync(100), slowness, Deadline(60))
            return found, 0 if many else controls.in_turn(clients)


def test_an_agent_for_one_serves_all_in_turn(controls: ModuleType, tmp_path: Path) -> None:
    found, turns = seen(controls, tmp_path, many=False, slowness=1.0)
    assert found == {End.SERVED: 1, End.WAITING: 4}
    assert turns == 5


def test_an_agent_for_many_is_not_taken_for_one(controls: ModuleType, tmp_path: Path) -> None:
    found, _ = seen(controls, tmp_path, many=True, slowness=1000.0)
    assert found == {End.SERVED: 5}


def test_the_pattern_is_nbdkits(controls: ModuleType) -> None:
    assert controls.pattern(8, 24) == bytes([0] * 7 + [8] + [0] * 7 + [16])
