"""Real agents without a VM, for the tests of everything that talks to one.

Both are processes of their own, started from the agent's folder as in a guest, and both give the path of a
Unix socket:

* `unix_agent`: every connection is served at once, as over vsock.
* `yamux_agent`: one connection, a multiplexing proxy's, is served at a time, and many streams on it at once.
* `serial_like_agent`: behaves as QEMU's chardev socket in front of one serial port of a guest. One connection
  is served at a time, the next ones wait in a backlog of 1, and the agent keeps its one channel across them.

With `broken`, words of Python that are run before it starts, it misbehaves; `tests.unit.broken` has some.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from harness.host.paths import cache_root
from harness.host.unixsocket import listening
from harness.image.store import Store
from harness.model.deadline import Deadline, until
from tests.unit.hangs import HANGS

HARNESS = Path(__file__).resolve().parents[2] / "harness"
_PATH = "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
_START = "from agent.__main__ import main; main()"
_START_SERIAL = """
import os, sys
from agent.__main__ import end_on_signal
from agent.server import Agent
from agent.channel import Line, PortChannel, TtyChannel
kind, read_fd, write_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
agent = Agent()
end_on_signal(agent)
os.write(1, b"ready\\n")
if kind == "tty":
    agent.serve(TtyChannel(os.ttyname(read_fd), read_fd))
elif kind == "port":
    agent.serve(PortChannel("/dev/vport0p1", read_fd, write_fd))
else:
    agent.serve_line(Line("/dev/vport0p1", read_fd, write_fd, lasting=True))
"""


@contextlib.contextmanager
def unix_agent(broken: str = "") -> Iterator[Path]:
    """An agent for many clients at once; gives the path to connect to."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        path = Path(folder, "s")
        with _process(broken + _START, "--unix", str(path)):
            yield path


@contextlib.contextmanager
def yamux_agent() -> Iterator[Path]:
    """An agent behind a multiplexing proxy; gives the path that the proxy connects to."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        path = Path(folder, "s")
        with _process(_START, "--yamux-unix", str(path)):
            yield path


@contextlib.contextmanager
def reference_proxy(mux: Path, *options: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The real proxy in front of `mux`, once it listens; gives the path to connect to, and its process.

    What it says is in a file `log` beside that path. Skips if its image is not built, as that takes a minute
    and Debian's mirror.
    """
    image = Store(cache_root()).find("proxy")
    if image is None:
        pytest.skip("images: the proxy is not built (vsock-harness images build proxy)")
    with tempfile.TemporaryDirectory(prefix="proxy-") as folder:
        path = Path(folder, "s")
        argv = [str(image.file("proxy")), "-mux-socket", str(mux), "-listen-socket", f"unix://{path}"]
        with (
            path.with_name("log").open("wb") as log,
            subprocess.Popen([*argv, *options], stdin=subprocess.DEVNULL, stderr=log) as process,
        ):
            try:
                until(lambda: str(path) in listening(), Deadline(HANGS), "the proxy's listening", every=0.01)
                yield path, process
            finally:
                process.terminate()


@contextlib.contextmanager
def serial_like_agent(kind: Literal["port", "tty", "mux"] = "port", broken: str = "") -> Iterator[Path]:
    """An agent on one serial port; gives the path of the chardev-like socket to connect to.

    `port` is as virtserialport: the agent sees a client leave, and what it writes while no client is there is
    kept for the next. `tty` is as isa-serial: it sees nothing, and what it writes meanwhile is lost. `mux` is
    a port on which yamux is spoken.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-")))
        line: _Fifos | _Pty = _Pty() if kind == "tty" else _Fifos(folder)
        stack.enter_context(line)
        stack.enter_context(
            _process(broken + _START_SERIAL, kind, *map(str, line.guest), pass_fds=line.guest)
        )
        line.close_guest()
        chardev = _Chardev(folder / "s", line)
        stack.callback(chardev.stop)
        yield chardev.path


@contextlib.contextmanager
def _process(code: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    """Run an agent from when it says its first line to the end of the block."""
    command = [sys.executable, "-I", "-B", "-c", _PATH + code, str(HARNESS), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=pass_fds
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the agent did not start"
            yield
            assert process.poll() is None, f"the agent ended by itself with {process.returncode}"
        finally:
            process.terminate()


class _Fifos:
    """Two pipes, which behave as a virtio port does: EOF and POLLHUP while no client is there."""

    keeps = True

    def __init__(self, folder: Path) -> None:
        self._to_guest, to_host = folder / "in", folder / "out"
        os.mkfifo(self._to_guest)
        os.mkfifo(to_host)
        guest_read = os.open(self._to_guest, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(guest_read, True)
        self.guest: tuple[int, ...] = (guest_read, os.open(to_host, os.O_RDWR))
        self.read_fd = os.open(to_host, os.O_RDONLY)
        self._write_fd = -1

    def __enter__(self) -> _Fifos:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_guest()
        os.close(self.read_fd)

    def close_guest(self) -> None:
        for fd in self.guest:
            os.close(fd)
        self.guest = ()

    def client_came(self) -> int:
        self._write_fd = os.open(self._to_guest, os.O_WRONLY)
        return self._write_fd

    def client_left(self) -> None:
        os.close(self._write_fd)


class _Pty:
    """A pseudo-terminal, which knows of no clients."""

    keeps = False

    def __init__(self) -> None:
        self.read_fd, slave = os.openpty()
        tty.setraw(slave)
        self.guest: tuple[int, ...] = (slave, slave)

    def __enter__(self) -> _Pty:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_guest()
        os.close(self.read_fd)

    def close_guest(self) -> None:
        for fd in set(self.guest):
            os.close(fd)
        self.guest = ()

    def client_came(self) -> int:
        return self.read_fd

    def client_left(self) -> None:
        """Nothing on the line tells."""


class _Chardev:
    """QEMU's ``-chardev socket,server=on,wait=off``: backlog 1, carries one connection's bytes."""

    def __init__(self, path: Path, line: _Fifos | _Pty) -> None:
        self.path = path
        self._line = line
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        os.close(self._stop_write)
        self._thread.join()
        os.close(self._stop_read)
        self._listener.close()

    def _run(self) -> None:
        while True:
            idle = {self._listener.fileno(): select.POLLIN}
            if not self._line.keeps:
                idle[self._line.read_fd] = select.POLLIN
            ready = self._wait(idle)
            if ready is None:
                return
            if self._line.read_fd in ready:
                os.read(self._line.read_fd, 65536)
            if self._listener.fileno() in ready:
                client, _ = self._listener.accept()
                with client:
                    self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        write_fd = self._line.client_came()
        os.set_blocking(write_fd, False)
        to_guest = to_host = b""
        with contextlib.suppress(OSError):  # the client left while it was written to
            while True:
                wish = {
                    client.fileno(): (0 if to_guest else select.POLLIN) | (select.POLLOUT if to_host else 0)
                }
                wish[self._line.read_fd] = 0 if to_host else select.POLLIN
                if to_guest:
                    wish[write_fd] = wish.get(write_fd, 0) | select.POLLOUT
                ready = self._wait(wish)
                if ready is None:
                    break
                if to_host and ready.get(client.fileno(), 0) & select.POLLOUT:
                    to_host = to_host[client.send(to_host, socket.MSG_DONTWAIT) :]
                if to_guest and ready.get(write_fd, 0) & select.POLLOUT:
                    to_guest = to_guest[os.write(write_fd, to_guest) :]
                if not to_host and ready.get(self._line.read_fd, 0) & select.POLLIN:
                    to_host = os.read(self._line.read_fd, 4096)
                if not to_guest and ready.get(client.fileno(), 0) & (select.POLLIN | select.POLLHUP):
                    to_guest = client.recv(4096)
                    if not to_guest:
                        break
        self._line.client_left()

    def _wait(self, wish: dict[int, int]) -> dict[int, int] | None:
        """What is ready; None to stop."""
        poll = select.poll()
        poll.register(self._stop_read, 0)
        for fd, events in wish.items():
            poll.register(fd, events)
        ready = dict(poll.poll())
        return None if self._stop_read in ready else ready
