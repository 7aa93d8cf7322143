"""What a client can be in the middle of when a fault comes, other than connecting."""

from __future__ import annotations

import contextlib
import json
import select
from collections import deque
from typing import Protocol

from harness.agent.seeded import Seeded
from harness.agent.wire import Frame, Kind, encode
from harness.guest.conversation import was_sunk
from harness.guest.errors import Garbled, compare
from harness.model.fault import While
from harness.run.line import Ended, Line

ASKED = 256 * 1024
"""Bytes of one request of who receives without a pause; two are under way at a time."""

SENT = (4 << 20) - 64 * 1024
"""Bytes of one request of who sends without a pause: as many as the agent takes without widening buffers."""

CHUNK = 64 * 1024

GUESTS_CHUNK = 15 * 1024
"""Of what the guest sends: vhost-device-vsock 0.3.0 loses larger pieces (scenarios/test_packets.py)."""

WORK = 0
"""The id of their requests, counted from a line's `work`."""


class Activity(Protocol):
    """What a client is in the middle of. `events` is what `move` waits for, which tells if anything moved."""

    events: int

    def __init__(self, line: Line, seed: int) -> None: ...

    def start(self) -> None:
        """Begin it."""

    def move(self) -> bool:
        """Go on with it.

        :raise SystemFailure: what came is not what this has to get.
        """

    def take(self, frame: Frame) -> None:
        """Compare one frame that came, and ask for no more.

        :raise SystemFailure: it is not what this has to get.
        """

    def finish(self) -> None:
        """Have what was sent so far answered as well."""

    def whole(self) -> None:
        """What was asked later has been answered.

        :raise Garbled: of what was asked before, something has not.
        """


class Idle:
    """Waits for anything; only the end can come."""

    events = select.POLLIN | select.POLLRDHUP

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line

    def start(self) -> None:
        """Nothing to do."""

    def move(self) -> bool:
        """See `Activity`; nothing should come."""
        for frame in self._line.frames():
            self.take(frame)
        return True

    def take(self, frame: Frame) -> None:
        """See `Activity`."""
        self._line.unasked(frame)

    def finish(self) -> None:
        """Nothing was asked."""

    def whole(self) -> None:
        """Nothing was asked."""


class Sending:
    """Sends request after request, and reads none of the answers, which are short, before `take`."""

    events = select.POLLOUT

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line
        self._request = line.work + WORK
        wish = {"seed": seed, "bytes": SENT}
        self._ask = encode(Frame(Kind.SINK, self._request, json.dumps(wish).encode()))
        self._data = Seeded(seed, SENT)
        self._sent = 0
        self._asked: deque[int] = deque()  # the bytes of each request not yet known to be answered

    def start(self) -> None:
        """Begin a request."""
        self._line.write(self._ask)
        self._asked.append(SENT)

    def move(self) -> bool:
        """Write what fits."""
        if not self._line.writing:
            piece = bytes(self._data.piece(self._sent, min(CHUNK, SENT - self._sent)))
            self._sent += len(piece)
            self._line.write(encode(Frame(Kind.DATA, self._request, piece)))
            if self._sent == SENT:
                self._sent = 0
                self.start()
        return self._line.flush()

    def take(self, frame: Frame) -> None:
        """See `Activity`: the agent says of each request that all came, and as it was."""
        if (frame.request, frame.kind) != (self._request, Kind.DONE) or not self._asked:
            self._line.unasked(frame)
        was_sunk("meet-fault", frame.payload, self._asked.popleft())

    def finish(self) -> None:
        """End the request that is begun: the agent compares what it has of it."""
        self._line.write(encode(Frame(Kind.DATA, self._request)))
        self._asked[-1] = self._sent

    def whole(self) -> None:
        """See `Activity`."""
        _all_answered(len(self._asked))


class Receiving:
    """Asks again and again, compares what comes."""

    events = select.POLLIN | select.POLLRDHUP

    def __init__(self, line: Line, seed: int) -> None:
        self._line = line
        self._request = line.work + WORK
        wish = {"seed": seed, "bytes": ASKED, "chunk": GUESTS_CHUNK}
        self._ask = encode(Frame(Kind.SOURCE, self._request, json.dumps(wish).encode()))
        self._data = Seeded(seed, ASKED)
        self._asked = 2
        self._came = 0

    def start(self) -> None:
        """Ask for the first two."""
        self._line.write(self._ask + self._ask)
        self._line.flush()

    def move(self) -> bool:
        """Take what came, ask for more."""
        moved = False
        for frame in self._line.frames():
            self.take(frame)
            if frame.kind == Kind.DONE:
                self._asked += 1
                self._line.write(self._ask)
                with contextlib.suppress(Ended):  # what recv() says of it is what counts
                    self._line.flush()
            else:
                moved = True
        return moved

    def take(self, frame: Frame) -> None:
        """See `Activity`: all the seeded bytes, in their order, then the end of that request."""
        if frame.request != self._request or frame.kind not in (Kind.DATA, Kind.DONE) or not self._asked:
            self._line.unasked(frame)
        if frame.kind == Kind.DONE:
            compare("meet-fault: count", 0, str(ASKED).encode(), str(self._came).encode())
            self._asked -= 1
            self._came = 0
            return
        if not self._data.holds(self._came, frame.payload):
            compare("meet-fault", self._came, self._data.piece(self._came, len(frame.payload)), frame.payload)
        self._came += len(frame.payload)

    def finish(self) -> None:
        """All that was asked is answered anyway."""

    def whole(self) -> None:
        """See `Activity`."""
        _all_answered(self._asked)


def _all_answered(missing: int) -> None:
    if missing:
        raise Garbled("answer", f"{missing} requests were not answered, a later one was")


ACTIVITIES: dict[While, type[Activity]] = {
    While.IDLE: Idle,
    While.SENDING: Sending,
    While.RECEIVING: Receiving,
}
