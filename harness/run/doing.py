"""What a client can be in the middle of when a fault comes, other than connecting."""

from __future__ import annotations

import contextlib
import json
import select
from typing import Protocol

from harness.agent.seeded import Seeded
from harness.agent.wire import Frame, Kind, encode
from harness.guest.errors import compare
from harness.model.fault import While
from harness.run.line import Ended, Line

ASKED = 256 * 1024
"""Bytes of one request of who receives without a pause; two are under way at a time."""

SENT = (4 << 20) - 64 * 1024
"""Bytes of one request of who sends without a pause: as many as the agent takes without widening buffers."""

CHUNK = 64 * 1024

GUESTS_CHUNK = 15 * 1024
"""Of what the guest sends: vhost-device-vsock 0.3.0 loses larger pieces (scenarios/test_packets.py)."""

WORK = 1 << 31
"""The id of their requests; an `AgentClient` begins below."""


class Activity(Protocol):
    """What a client is in the middle of. `events` is what `move` waits for, which tells if anything moved."""

    events: int

    def __init__(self, line: Line, seed: int) -> None: ...

    def start(self) -> None:
        """Begin it."""

    def move(self) -> bool:
        """Go on with it."""


class Idle:
    """Waits for anything; only the end can come."""

    events = select.POLLIN | select.POLLRDHUP

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line

    def start(self) -> None:
        """Nothing to do."""

    def move(self) -> bool:
        """See `Activity`; nothing should come."""
        for _ in self._line.frames():
            pass
        return True


class Sending:
    """Sends request after request, and reads none of the answers, which are short."""

    events = select.POLLOUT

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line
        self._ask = encode(Frame(Kind.SINK, WORK, json.dumps({"seed": seed, "bytes": SENT}).encode()))
        self._data = Seeded(seed, SENT)
        self._sent = 0

    def start(self) -> None:
        """Begin a request."""
        self._line.write(self._ask)

    def move(self) -> bool:
        """Write what fits."""
        if not self._line.writing:
            piece = bytes(self._data.piece(self._sent, min(CHUNK, SENT - self._sent)))
            self._sent += len(piece)
            self._line.write(encode(Frame(Kind.DATA, WORK, piece)))
            if self._sent == SENT:
                self._sent = 0
                self.start()
        return self._line.flush()


class Receiving:
    """Asks again and again, compares what comes."""

    events = select.POLLIN | select.POLLRDHUP

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line
        wish = {"seed": seed, "bytes": ASKED, "chunk": GUESTS_CHUNK}
        self._ask = encode(Frame(Kind.SOURCE, WORK, json.dumps(wish).encode()))
        self._data = Seeded(seed, ASKED)
        self._came = 0

    def start(self) -> None:
        """Ask for the first two."""
        self._line.write(self._ask + self._ask)
        self._line.flush()

    def move(self) -> bool:
        """Take what came, ask for more."""
        moved = False
        for frame in self._line.frames():
            if frame.kind == Kind.DONE:
                self._came = 0
                self._line.write(self._ask)
                with contextlib.suppress(Ended):  # what recv() says of it is what counts
                    self._line.flush()
            elif frame.kind == Kind.DATA:
                if not self._data.holds(self._came, frame.payload):
                    piece = self._data.piece(self._came, len(frame.payload))
                    compare("meet-fault", self._came, piece, frame.payload)
                self._came += len(frame.payload)
                moved = True
        return moved


ACTIVITIES: dict[While, type[Activity]] = {
    While.IDLE: Idle,
    While.SENDING: Sending,
    While.RECEIVING: Receiving,
}
