"""What a listener of the host's sees of a guest that connects to it again and again."""

from __future__ import annotations

import json
import select
import socket
import time

from harness.agent.again import AGAIN
from harness.agent.wire import Frame, Kind, encode
from harness.link.listen import Listener
from harness.run.fresh import FIRST
from harness.run.line import Line


class Calls:
    """The guest's connections to `listener`: each is closed at once, upon which it makes the next."""

    def __init__(self, listener: Listener) -> None:
        self.last = 0.0
        """When the last one came (CLOCK_MONOTONIC); 0 if none did."""
        self._listener = listener

    def ordered(self, line: Line, label: str, end: float) -> bool:
        """Ask the agent on `line` for them, which then tells by `label` how they ended; whether the first one
        came before `end` (monotonic).

        :raise Ended: the line did.
        """
        wish = {"port": self._listener.port, "does": AGAIN, "label": label}
        line.write(encode(Frame(Kind.DIAL, line.work + FIRST, json.dumps(wish).encode())))
        if line.until(line.work + FIRST, Kind.REPLY, end):
            self.take(end=end, most=1)
        return bool(self.last)

    def take(self, pipe: socket.socket | None = None, *, end: float = 0.0, most: int = 0) -> None:
        """Take what comes until there is something to read from `pipe`, or `end` (monotonic) is there, or
        `most` have come; each of the three only if it is given."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        if pipe is not None:
            poll.register(pipe, select.POLLIN)
        came = 0
        while not end or time.monotonic() < end:
            ready = {fd for fd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000 if end else None)}
            if pipe is not None and pipe.fileno() in ready:
                return
            if self._listener.fileno() in ready and self._listener.dismiss():
                self.last = time.monotonic()
                came += 1
                if came == most:
                    return
