"""Client processes, forked from one warm process: starting one costs seconds on an emulated CPU."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from types import TracebackType

from harness.model.errors import InfrastructureError
from harness.run import control

_FORKER = "import sys; from harness.run.forker import main; main(int(sys.argv[1]))"
_END_TAKES = 30.0
"""Seconds the forker has to kill and reap its children; only one stuck in the kernel needs more."""


class Nursery:
    """A forker process of its own, from when it is made until it is closed; a context manager.

    Cheap to share: one serves any number of runs. When this process ends in any way, so do the forker and all
    clients; leaving the block ends them too, and returns when all are gone.

    The forker has this process's ``sys.path``, environment and stderr, and nothing of its ``__main__``.
    """

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._forker = subprocess.Popen(
                [sys.executable, "-P", "-c", _FORKER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for this process, which ends the clients
            )

    @property
    def pid(self) -> int:
        """The forker's process id."""
        return self._forker.pid

    def spawn(self) -> socket.socket:
        """Ask for a client process and return the coordinator's end of its control pipe, non-blocking.

        The first message on it is `Born`; the last is `Died`, then it ends.

        :raise InfrastructureError: when the forker is gone.
        """
        ours, theirs = control.pair()
        with theirs:
            try:
                socket.send_fds(self._requests, [b"\0"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise InfrastructureError(
                    f"cannot fork a client: the forker (process {self.pid}) is gone: {error.strerror}",
                    hint="its last words are on stderr",
                ) from error
        return ours

    def close(self) -> None:
        """End the forker and its children, and wait for that. May be called again.

        :raise InfrastructureError: when the forker is still there after 30 s.
        """
        self._requests.close()
        try:
            self._forker.wait(_END_TAKES)
        except subprocess.TimeoutExpired as error:
            self._forker.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._forker.wait(1)
            raise InfrastructureError(
                f"the forker (process {self.pid}) did not end its clients within {_END_TAKES:.0f} s",
                hint="look for clients stuck in the kernel: ps -o pid,stat,wchan,args",
            ) from error

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
