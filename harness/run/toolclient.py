"""A client process that is one of the host's own tools: it says and hears by the tool's stdin and stdout.

It tells what a client of the agent tells, but CONNECTED: a tool does not say when it is. One that ends before
its first answer, with connect()'s errno in its words, is REFUSED; one that ends otherwise is LOST. What it
writes is read no further than a step asks, so a copy stands still in the middle. While it holds, its last
exchange is its round trip; a tool that has none can't make any.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO

from harness.agent.errnos import NAMES
from harness.host.process import bound
from harness.model.steps import Copy, Exchange, Leave, Step, WaitFor
from harness.model.trace import Event, What
from harness.run import control
from harness.run.control import Begin, Tool

Value = str | int | float | bool | None

REFUSALS = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENODEV,
    errno.ENOENT,
    errno.ETIMEDOUT,
)
"""What connect() fails with, by the names that strerror(3) has for them in the C locale."""

_PIECE = 64 * 1024
"""Bytes read at a time, at most: what a pipe holds."""

_TOLD_MAX = 500
"""Characters of its complaint that go into the trace."""

_SHOWN = 60


class _Over(Exception):
    """There is nothing more to do: the client's end was told."""


def pattern(start: int, end: int) -> bytes:
    """Bytes of nbdkit's pattern disk: each eight tell their own offset, big endian
    (nbdkit-pattern-plugin(1))."""
    first = start - start % 8
    numbers = array.array("Q", range(first, end, 8))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()[start - first : end - first]


class ToolClient:
    """One client's life: start the tool, do each step, hold or leave. The tool ends with it."""

    def __init__(self, pipe: socket.socket, begin: Begin, tool: Tool) -> None:
        self._pipe = pipe
        self._begin = begin
        self._tool = tool
        self._step = -1
        self._op = ""
        self._answered = False
        self._copied = 0
        self._last: Exchange | None = None

    def run(self) -> None:
        """All of it."""
        self._tell(What.STARTED, pid=os.getpid())
        self._tell(What.CONNECTING, by=self._tool.argv[0])
        with _Running(self._tool) as running, contextlib.suppress(_Over):
            self._work(running)

    def _work(self, running: _Running) -> None:
        last: Step | None = None
        for index, step in enumerate(self._begin.steps):
            self._step, self._op, last = index, step.op, step
            if not isinstance(step, Leave):
                self._tell(What.ASKED)
                moved = self._do(running, step)
                self._tell(What.ANSWERED, **({"bytes": moved} if moved else {}))
        self._step, self._op = -1, ""
        if not (self._begin.leave or isinstance(last, Leave)):
            self._tell(What.HOLDING, pings=self._last is not None)
            while isinstance(control.receive_order(self._pipe)[0], control.Ping) and self._last:
                self._op = "hold"
                self._exchange(running, self._last)
                self._tell(What.PINGED)
                self._op = ""
        self._tell(What.LEFT)

    def _do(self, running: _Running, step: Step) -> int:
        """Do it; how many bytes were compared."""
        match step:
            case WaitFor():
                if not isinstance(control.receive_order(self._pipe)[0], control.Go):
                    raise _Over
                return 0
            case Exchange():
                self._last = step
                return self._exchange(running, step)
            case Copy():
                return self._copy(running, step.bytes)
        raise TypeError(f"a tool can't do {step.op}")

    def _exchange(self, running: _Running, step: Exchange) -> int:
        running.say(step.say.encode())
        hear = step.hear.encode()
        heard = b""
        for piece in self._heard(running, len(hear)):
            heard += piece
            if not hear.startswith(heard):
                self._differs(hear, heard, 0)
        return len(hear)

    def _copy(self, running: _Running, size: int) -> int:
        for piece in self._heard(running, size):
            wanted = pattern(self._copied, self._copied + len(piece))
            if piece != wanted:
                self._differs(wanted, piece, self._copied)
            self._copied += len(piece)
        return size

    def _heard(self, running: _Running, size: int) -> Iterator[bytes]:
        """So many bytes as they come; the tool's end before that is the client's."""
        while size:
            piece = running.read(min(size, _PIECE))
            if not piece:
                self._ended(running)
            self._answered = True
            size -= len(piece)
            yield piece

    def _ended(self, running: _Running) -> None:
        ending, complaint = running.ending()
        named = next((code for code in REFUSALS if os.strerror(code) in complaint), None)
        if named is not None and not self._answered:
            self._tell(What.REFUSED, errno=NAMES[named], error=complaint)
        else:
            self._tell(What.LOST, errno="eof", error=f"{ending}: {complaint}")
        raise _Over

    def _differs(self, wanted: bytes, seen: bytes, offset: int) -> None:
        self._answered = True
        same = next((at for at, (a, b) in enumerate(zip(wanted, seen, strict=False)) if a != b), len(wanted))
        ends = (repr(data[same : same + 16])[:_SHOWN] for data in (wanted, seen))
        self._tell(What.WRONG, expected=next(ends), seen=next(ends), at=offset + same)
        self._tell(What.LEFT)
        raise _Over

    def _tell(self, what: What, **detail: Value) -> None:
        at = time.monotonic()
        event = Event(
            at=at, client=self._begin.client, what=what, step=self._step, op=self._op, detail=detail
        )
        control.tell(self._pipe, event)


class _Running:
    """The tool's process. It ends by SIGKILL: with the `with`, and whenever this process does."""

    def __init__(self, tool: Tool) -> None:
        self._complaint: IO[bytes] = os.fdopen(os.memfd_create("complaint"), "r+b")
        self._process = subprocess.Popen(
            bound(tool.argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaint,
            env={**os.environ, **tool.env, "LC_ALL": "C"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout.fileno()

    def __enter__(self) -> _Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, data: bytes) -> None:
        """Write to its stdin; to one that has ended already, nothing: its end is what is read next."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(data)
            self._stdin.flush()

    def read(self, most: int) -> bytes:
        """Something of its stdout, once there is any; nothing once it has closed it."""
        return os.read(self._stdout, most)

    def ending(self) -> tuple[str, str]:
        """How it ends, and what it wrote to its stderr; waits for its end."""
        code = self._process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self._complaint.seek(0)
        return how, self._complaint.read().decode(errors="replace").strip()[-_TOLD_MAX:]
