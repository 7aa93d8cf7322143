"""Round trips, and what a new connection gets, in one word: how a client that met a fault says it."""

from __future__ import annotations

import time

from harness.agent.errnos import errno_name
from harness.guest.errors import AgentError, ConnectionLost, Garbled, StaleReply, WrongData
from harness.guest.sockets import AgentSockets
from harness.link.connect import connect
from harness.link.listen import Listener, listening
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from harness.model.factwords import GARBLED, SERVED, SILENT
from harness.model.link import Endpoint
from harness.model.plan import Initiated
from harness.run.doing import WORK
from harness.run.line import Ended, Line

FIRST, NEXT, LAST = range(WORK + 1, WORK + 4)
"""Ids of requests, counted from a line's `work`: before the fault, at it, and after it."""


def round_trip(line: Line, seconds: float) -> str:
    """What one more gives, behind all that was written: ``served``, ``silent``, or how the line ends."""
    line.ping(LAST)
    return answer(line, seconds)


def answer(line: Line, seconds: float) -> str:
    """The same of one that was begun.

    :raise SystemFailure: see `Line.answered`.
    """
    try:
        return SERVED if line.answered(time.monotonic() + seconds) else SILENT
    except Ended as ended:
        return ended.why


def reconnected(
    endpoint: Endpoint, initiated: Initiated, patience: float, listener: Listener | None = None
) -> str:
    """What a new connection, opened by that side, gets: ``served``, ``silent``, the errno's name or ``eof``;
    ``garbled``, where what comes on it is no answer, or another's.

    :param patience: seconds for each answer.
    :param listener: is to be dialled, by the guest; without it the guest dials one that is made for this.
    """
    try:
        if listener:
            return dialled(listener, endpoint, patience)
        if initiated is Initiated.GUEST:
            with listening(endpoint) as made:
                return dialled(made, endpoint, patience)
        with connect(endpoint) as sock:
            line = Line(sock)
            if endpoint.link.is_serial_port and not endpoint.link.is_proxied:
                line.overlook()
            return round_trip(line, patience)
    except (Garbled, StaleReply, WrongData, AgentError):
        return GARBLED
    except OSError as error:
        return errno_name(error)


def dialled(listener: Listener, endpoint: Endpoint, patience: float) -> str:
    """What the guest behind `endpoint` gets that dials `listener`: as `reconnected`, but for ``garbled``.

    :raise SystemFailure: what comes is no answer, or another's.
    """
    try:
        with AgentSockets(connect(endpoint)) as agent:
            failed = agent.dial(listener.port, deadline=Deadline(patience))
            if failed is not None:
                return failed
            with listener.accept(endpoint.cid) as sock:
                return round_trip(Line(sock), patience)
    except DeadlinePassed:
        return SILENT
    except ConnectionLost as lost:
        return lost.why
    except OSError as error:
        return errno_name(error)
