"""A container: a process, and its process group, that runs for one client."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

from .wire import Kind

_READ_SIZE = 65536
_PIPE_MAX = 1 << 20  # fs.pipe-max-size: one read takes all that a pipe holds
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL | select.POLLRDHUP


class Container:
    """A running process in a session of its own, with pipes to its stdin, stdout and stderr.

    It ends when its first process ends: the rest of the process group is killed then, as a container's
    processes are. A process that leaves the group (setsid) escapes that.

    :raise OSError: if it cannot be started; the errno says why.
    """

    def __init__(self, argv: list[str], env: Mapping[str, str] | None, cwd: str | None) -> None:
        self._ending = threading.Lock()
        self._feeding = threading.Lock()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            bufsize=0,
        )
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            with self._process:
                self.end()
            raise
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._outputs = {stdout.fileno(): Kind.STDOUT, stderr.fileno(): Kind.STDERR}
        os.set_blocking(self._stdin.fileno(), False)

    @property
    def pid(self) -> int:
        """The first process's id, which is its process group's."""
        return self._process.pid

    def follow(self, output: Callable[[Kind, bytes], None]) -> dict[str, int | str | None]:
        """Hand on all output until the container has ended, and return how: ``{"code", "signal"}``.

        What the first process wrote before it ended is handed on; whatever `output` raises goes through,
        and the container is ended.
        """
        try:
            self._follow(output)
        finally:
            code = self.release()
        if code >= 0:
            return {"code": code, "signal": None}
        return {"code": None, "signal": _signal_name(-code)}

    def feed(self, data: bytes, owner: int) -> None:
        """Write `data` to stdin, closing it for b"". Blocks while the container does not read.

        Gives up when the container has ended or closed its stdin, or when `owner`, a descriptor, says that
        its other end has gone.
        """
        with self._feeding:
            if self._stdin.closed:
                return  # after EOF, or ended
            if not data:
                self._stdin.close()
                return
            poll = select.poll()
            poll.register(self._stdin.fileno(), select.POLLOUT)
            poll.register(owner, select.POLLRDHUP)
            poll.register(self._pidfd, select.POLLIN)
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(self._stdin.fileno(), view) :]
                except BlockingIOError:
                    events = dict(poll.poll())
                    if self._pidfd in events or events.get(owner, 0) & _GONE:
                        return
                except OSError:
                    return

    def send_signal(self, name: str) -> None:
        """Send a signal to the first process, nothing if it has ended.

        :raise ValueError: if there is no signal of that name.
        """
        number = getattr(signal, name, None)
        if not isinstance(number, signal.Signals):
            raise ValueError(f"no signal {name!r}")
        with self._ending:
            if self._process.returncode is None:
                os.kill(self.pid, number)

    def end(self) -> int:
        """Kill what is left of the process group and reap it; return the wait status as subprocess has it."""
        with self._ending:
            if self._process.returncode is None:
                # Not reaped yet, so the number still means this group.
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    self._process.kill()
                self._process.wait()
            return self._process.returncode

    def _follow(self, output: Callable[[Kind, bytes], None]) -> None:
        poll = select.poll()
        for fd in (*self._outputs, self._pidfd):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._pidfd in ready:
                break
            for fd in ready:
                data = os.read(fd, _READ_SIZE)
                if data:
                    output(self._outputs[fd], data)
                else:
                    poll.unregister(fd)
        self.end()
        for fd, kind in self._outputs.items():
            os.set_blocking(fd, False)  # one that escaped may hold the other end for ever
            if data := _read_now(fd):
                output(kind, data)

    def release(self) -> int:
        """`end` it and close all descriptors. Called once, by the one that follows or by who can't."""
        code = self.end()
        self._stdout.close()
        self._stderr.close()
        with self._feeding:
            self._stdin.close()
            os.close(self._pidfd)
        return code


def _read_now(fd: int) -> bytes:
    try:
        return os.read(fd, _PIPE_MAX)
    except BlockingIOError:
        return b""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
