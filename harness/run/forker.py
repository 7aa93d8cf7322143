"""The warm process that clients are forked from: imports what a client needs, then forks on request.

Python's own ``multiprocessing`` forkserver leaves its socket's folder in /tmp when its user is killed, and
runs the user's ``__main__`` (pytest) again in every child; this one has no path and no ``__main__``.

It ends at EOF of its socket, so with the harness, in whatever way that ends. Each client asks the kernel to
kill it when the forker ends (PR_SET_PDEATHSIG, prctl(2)), and ends itself at EOF of its control pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
from typing import NamedTuple

from harness.run import clientprocess, control

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(fd: int) -> None:
    """Serve the socket `fd`: each datagram carries the client's end of a control pipe, and asks for a fork.

    Returns at EOF with all children killed and reaped. Each child ends here when it has done its work, and
    not by Python's own way out: that visits every object of the forker's, and so copies nearly every page.
    """
    libc = ctypes.CDLL(None)
    gc.freeze()  # what is here now stays: collecting it would only copy pages
    forker = os.getpid()
    with socket.socket(fileno=fd) as requests:
        pipe = _Forker(requests).serve()
    if pipe is None:
        return
    with pipe:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == forker:  # else it ended before the kernel was asked
            clientprocess.main(pipe)
    os._exit(0)


class _Child(NamedTuple):
    """A living client. `pipe` is its end of the control pipe, kept to report its death on."""

    pid: int
    pidfd: int
    pipe: socket.socket


class _Forker:
    """The loop, with a poll set made anew for each turn: turns are few, children at most a hundred."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}

    def serve(self) -> socket.socket | None:
        """Fork until EOF, then None; in a child its pipe, with all else that was open here closed."""
        while True:
            poll = select.poll()
            for fd in (self._requests.fileno(), *self._children):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd in self._children:
                    self._reap(self._children.pop(fd))
                    continue
                data, fds, _, _ = socket.recv_fds(self._requests, 1, 1)
                if not data:
                    self._end()
                    return None
                pipe = self._fork(socket.socket(fileno=fds[0]))
                if pipe is not None:
                    return pipe

    def _fork(self, pipe: socket.socket) -> socket.socket | None:
        try:
            pid = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError), pipe:
                control.send(pipe, control.Crashed(f"fork failed: {error}"))
            return None
        if pid == 0:
            for child in self._children.values():
                os.close(child.pidfd)
                child.pipe.close()
            return pipe
        child = _Child(pid, os.pidfd_open(pid), pipe)
        self._children[child.pidfd] = child
        with contextlib.suppress(OSError):  # the coordinator is gone; the child sees that too
            control.send(pipe, control.Born(pid), child.pidfd)
        return None

    def _reap(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        os.close(child.pidfd)
        with child.pipe, contextlib.suppress(OSError):
            control.send(child.pipe, control.Died(os.waitstatus_to_exitcode(status)))

    def _end(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in self._children.values():
            self._reap(child)
