"""Who reads what this program says may leave it, as head(1) does; then nothing more is said, anywhere."""

from __future__ import annotations

import os
import select

PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell sees of a cat(1) whose reader has left."""

_OUTPUTS = (1, 2)


def is_left(error: BaseException) -> bool:
    """Whether it came of a write to stdout or stderr that nobody reads any more."""
    return isinstance(error, BrokenPipeError) and any(map(_has_no_reader, _OUTPUTS))


def hush() -> None:
    """What is written from now on to an output that nobody reads is lost; no write of it fails again.

    So the end of what was begun, and the interpreter's own flush at exit, are not cut short.
    """
    for output in filter(_has_no_reader, _OUTPUTS):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)


def _has_no_reader(fd: int) -> bool:
    """Whether it is a pipe or a socket whose other end is closed (poll(2))."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(seen & (select.POLLERR | select.POLLHUP) for _, seen in poll.poll(0))
