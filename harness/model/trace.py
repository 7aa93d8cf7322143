"""What every client saw, in order. Written as JSON lines, one `Event` a line."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class What(StrEnum):
    """What a client reports; the order within one client is the order of happening."""

    STARTED = "started"  # its process runs; detail: pid
    CONNECTING = "connecting"  # about to connect (may block for ever on a serial port)
    CONNECTED = "connected"  # connect() returned; says nothing about being served
    REFUSED = "refused"  # connect() failed; detail: errno, error
    ASKED = "asked"  # a step's first request is fully written, or being written
    READY = "ready"  # has come to the fault; then again: does what it is to be in the middle of
    NOTICED = "noticed"  # the fault was, and this came of it; detail: doing, sees, seconds since
    PROGRESS = "progress"  # bytes moved within a step; bytes: so far; detail: sent, received
    ANSWERED = "answered"  # a step ended as it should; detail: what was compared (docs/scenarios.md)
    WRONG = "wrong"  # a step ended with wrong data; detail: expected, seen
    STALE = "stale"  # read a reply to a request this client never made
    FACT = "fact"  # something to expect by name; detail: {name: value}
    LOST = "lost"  # the connection ended within a step; detail: errno or "eof"
    HOLDING = "holding"  # all steps done, connection kept
    PINGED = "pinged"  # a round trip made while holding, on the coordinator's word
    LEFT = "left"  # closed its connection; at: just before, so that who is served next is later
    ENDED = "ended"  # the coordinator ended the client where it was; detail: doing


BY_SIGKILL = "killed by SIGKILL"
"""Of a LOST whose process ended by itself the detail `process`, where it was so."""

GUEST_NOTICED = "guest-noticed"
"""In a FACT's detail: seconds from the fault to the end that the guest saw."""

CONTAINERS_GONE = "containers-gone"
"""In a FACT's detail: seconds from the fault to when the agent had reaped the client's last container."""

TIMES = (GUEST_NOTICED, CONTAINERS_GONE)
"""Of a FACT's details those that are times of the agent's clock: another in each run, no facts to expect."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing one client saw.

    `at` is CLOCK_MONOTONIC seconds on the host that ran the clients, so all clients of a run share it.
    `client` is ``group/index``. `step` is the index into the group's workload, -1 outside any step.
    `trips`: with the answer of a `ping`, what each round trip took, in µs, in their order
    (`harness.model.trips` says how many are kept).
    """

    at: float
    client: str
    what: What
    step: int = -1
    op: str = ""
    bytes: int = 0
    trips: tuple[int, ...] = ()
    detail: dict[str, str | int | float | bool | None] = {}
