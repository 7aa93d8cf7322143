"""The process of a client, whichever it is."""

from __future__ import annotations

import os
import select
import socket
import threading
from types import TracebackType

from harness.run import control
from harness.run.client import Client
from harness.run.control import Begin
from harness.run.toolclient import ToolClient

_TOLD_MAX = 1000
"""Characters of an unexpected error that go into the trace."""


def main(pipe: socket.socket) -> None:
    """Be the client that the first order on `pipe` names, to its end.

    The process ends at once when the coordinator goes: at the end of `pipe`, in the middle of anything.
    """
    threading.Thread(target=_end_with, args=(pipe.fileno(),), daemon=True).start()
    order, _ = control.receive_order(pipe)
    if isinstance(order, Begin):
        with _Telling(pipe):
            if order.tool is not None:
                ToolClient(pipe, order, order.tool).run()
            else:
                Client(pipe, order).run()


def _end_with(pipe: int) -> None:
    poll = select.poll()
    poll.register(pipe, select.POLLRDHUP)
    poll.poll()
    os._exit(0)


class _Telling:
    """Tells the coordinator of an error that nobody expected; it then goes on, to stderr."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            control.send(self._pipe, control.Crashed(f"{kind.__name__}: {error}"[:_TOLD_MAX]))
