"""What can go wrong between a client and the agent, each a failure of the system under test."""

from __future__ import annotations

import json

from harness.agent.wire import Frame, Kind
from harness.model.errors import SystemFailure


class StaleReply(SystemFailure):
    """A reply came to a request that this client never made: another client's, on a shared channel."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(
            f"read a {kind_name(frame.kind)} of {len(frame.payload)} bytes to request {frame.request}, "
            "which this client never made"
        )
        self.frame = frame
        self.request = frame.request


class Garbled(SystemFailure):
    """What was read is no frame (`reason` is a `BadFrame`'s), or no fitting one (``kind``, ``answer``)."""

    def __init__(self, reason: str, summary: str) -> None:
        super().__init__(summary)
        self.reason = reason


class ConnectionLost(SystemFailure):
    """The connection ended within a call. `why` is an errno's name or ``eof``; `detail` what it said."""

    def __init__(self, why: str, summary: str, *, detail: str = "") -> None:
        super().__init__(summary, detail=detail)
        self.why = why


class AgentError(SystemFailure):
    """The agent refused a request; `code` is a fixed word or an errno's name, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the agent refused: {code}: {message}")
        self.code = code
        self.message = message


class WrongData(SystemFailure):
    """Data came whole but different from byte `at` on; `expected`, `seen`: up to 16 bytes there, in hex."""

    def __init__(self, what: str, at: int, expected: bytes, seen: bytes) -> None:
        self.at, self.expected, self.seen = at, expected.hex(), seen.hex()
        end = "the end"
        super().__init__(
            f"{what}: wrong data at byte {at}: want {self.expected or end}, got {self.seen or end}"
        )


def kind_name(kind: int) -> str:
    """The kind's name, or its number if it has none."""
    try:
        return Kind(kind).name
    except ValueError:
        return f"frame of kind {kind}"


def agent_error(frame: Frame) -> AgentError:
    """The error that an ERROR frame tells."""
    try:
        told = json.loads(frame.payload)
        return AgentError(str(told["code"]), str(told["message"]))
    except (ValueError, TypeError, KeyError):
        return AgentError("unreadable", repr(frame.payload[:200]))


def compare(what: str, offset: int, expected: bytes, seen: bytes) -> None:
    """Nothing if equal.

    :raise WrongData: with the offset of the first difference, counted from `offset`.
    """
    if expected == seen:
        return
    pairs = enumerate(zip(expected, seen, strict=False))
    at = next((place for place, (want, got) in pairs if want != got), min(len(expected), len(seen)))
    raise WrongData(what, offset + at, expected[at : at + 16], seen[at : at + 16])
