"""The steps of a workload, resolved for one link: what a client process does, in order.

A tagged union of frozen structs; JSON carries the kind in `op`, which equals the word of the scenario file
and `Event.op` of the trace. Dispatch with ``match step: case Echo(): …``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, TypeAlias

import msgspec

from harness.model.expect import version_of
from harness.model.fault import While
from harness.model.halves import Answer, Deaf


class Moment(StrEnum):
    """What `wait-for` waits for: it must hold for every client of the group."""

    PARKED = "parked"  # is connected and in a `wait-for` of its own, or holds, or has left
    LEFT = "left"  # has closed its connection
    HOLDING = "holding"  # has done all steps and keeps its connection, or has left
    ENDED = "ended"  # its process is no more, in whatever way


class Way(StrEnum):
    """Which way a flood goes."""

    ECHO = "echo"  # to the guest and back
    RECEIVE = "receive"  # from the guest
    SEND = "send"  # to the guest


class SocketType(StrEnum):
    """What kind of socket a step uses."""

    STREAM = "stream"
    SEQPACKET = "seqpacket"
    DGRAM = "dgram"


class Target(StrEnum):
    """Where `connect` goes."""

    LISTENING = "listening"  # a port where the other end listens
    REFUSING = "refusing"  # a port that the other end holds without listening
    NO_VM = "no-vm"  # a CID that is held here, with no VM behind it
    NOBODY = "nobody"  # a CID that nobody holds


class _Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """What all steps share."""

    op: ClassVar[str] = ""


class Echo(_Step, frozen=True, kw_only=True, tag="echo"):
    """Send `bytes` seeded bytes, read them back, compare; `times` times, one after the other."""

    op: ClassVar[str] = "echo"
    bytes: int
    times: int = 1


class Ping(_Step, frozen=True, kw_only=True, tag="ping"):
    """The smallest round trip, `times` times, one after the other."""

    op: ClassVar[str] = "ping"
    times: int = 1


class Send(_Step, frozen=True, kw_only=True, tag="send"):
    """Send `bytes` seeded bytes; the agent compares each with what it must be."""

    op: ClassVar[str] = "send"
    bytes: int


class Receive(_Step, frozen=True, kw_only=True, tag="receive"):
    """Have the agent send `bytes` seeded bytes; compare each with what it must be."""

    op: ClassVar[str] = "receive"
    bytes: int


class Start(_Step, frozen=True, kw_only=True, tag="start"):
    """Start a container named `name` (unique in its client) and leave it running."""

    op: ClassVar[str] = "start"
    name: str
    argv: tuple[str, ...]


class _Outcome(_Step, frozen=True, kw_only=True):
    """Feed a container its whole stdin, wait for its end; what is not None is compared.

    Exactly one of `exit` (code) and `signal` (name as SIGTERM) is not None.
    """

    stdin: str = ""
    stdout: str | None = None
    stderr: str | None = None
    exit: int | None = None
    signal: str | None = None


class Run(_Outcome, frozen=True, kw_only=True, tag="run"):
    """Start a container, feed it `stdin`, wait for its end, compare what is not None."""

    op: ClassVar[str] = "run"
    argv: tuple[str, ...]


class Finish(_Outcome, frozen=True, kw_only=True, tag="finish"):
    """Feed the container started as `name` its `stdin`, wait for its end, compare what is not None."""

    op: ClassVar[str] = "finish"
    name: str


class OpenDevice(_Step, frozen=True, kw_only=True, tag="open-device"):
    """Have the agent open this link's own guest device a second time.

    Gives the fact `second-open`: ``opened``, an errno's name, or ``no-device`` (vsock has none).
    """

    op: ClassVar[str] = "open-device"


class AskAndLeave(_Step, frozen=True, kw_only=True, tag="ask-and-leave"):
    """Ask for an echo of `bytes` that the agent answers late; close without reading. Always the last step."""

    op: ClassVar[str] = "ask-and-leave"
    bytes: int


class StopReading(_Step, frozen=True, kw_only=True, tag="stop-reading"):
    """Ask the agent for `bytes`, read the first of them, then read no more.

    Always the last step: the client then holds but cannot make round trips.
    """

    op: ClassVar[str] = "stop-reading"
    bytes: int


class Flood(_Step, frozen=True, kw_only=True, tag="flood"):
    """Move seeded bytes as fast as it goes, until `bytes` were moved or the scenario is over.

    `piece`: bytes of each send() at most; None is as many as there are.

    Always the last step: from the first bytes that came, or so many gone that the agent must have read some,
    the client holds, and goes on meanwhile.
    """

    op: ClassVar[str] = "flood"
    bytes: int
    way: Way = Way.ECHO
    piece: int | None = None


class WaitFor(_Step, frozen=True, kw_only=True, tag="wait-for"):
    """Wait until `event` holds for every client of `group`; the coordinator tells."""

    op: ClassVar[str] = "wait-for"
    group: str
    event: Moment


class Containers(_Step, frozen=True, kw_only=True, tag="containers"):
    """Wait until the agent counts exactly `running` containers, those of all clients together.

    `within`: seconds of a plain machine that it may take; an agent ends them when it sees a client leave.
    """

    op: ClassVar[str] = "containers"
    running: int
    within: int = 10


class MeetFault(_Step, frozen=True, kw_only=True, tag="meet-fault"):
    """Do `doing` until the plan's fault comes, then tell what it did to this client.

    Gives the facts `sees` (errno's name, ``eof``, or ``nothing`` within `within` seconds), `next-send`, and,
    once the fault is over as far as it ever is, `then` and `reconnect`; see docs/scenarios.md.
    """

    op: ClassVar[str] = "meet-fault"
    doing: While
    within: int = 3


class Leave(_Step, frozen=True, kw_only=True, tag="leave"):
    """Close the connection abruptly; containers still running are left to the agent. Always the last step."""

    op: ClassVar[str] = "leave"


class FailsSince(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With what a `Connect` must fail instead, where the host's kernel is `linux` or later."""

    linux: str
    fails: tuple[str, ...]


class Connect(_Step, frozen=True, kw_only=True, tag="connect"):
    """Open a further connection, from the side that the client's group says, and close it again.

    With `fails` it must fail, with one of these errnos; without, it must not. `newer`: with others since
    some kernel.
    """

    op: ClassVar[str] = "connect"
    to: Target
    type: SocketType = SocketType.STREAM
    fails: tuple[str, ...] = ()
    newer: FailsSince | None = None

    def on_kernel(self, release: str) -> Connect:
        """This, as it is on a host whose kernel is `release` (uname(2)): with nothing left in `newer`."""
        if self.newer is None:
            return self
        is_newer = version_of(release) >= version_of(self.newer.linux)
        return msgspec.structs.replace(self, fails=self.newer.fails if is_newer else self.fails, newer=None)


class Messages(_Step, frozen=True, kw_only=True, tag="messages"):
    """Send `times` messages of 1 to `bytes` bytes over a SOCK_SEQPACKET connection, some at a time.

    The agent gives each read back as one message; their number, lengths and bytes are compared.
    """

    op: ClassVar[str] = "messages"
    bytes: int
    times: int = 1


class Shutdown(_Step, frozen=True, kw_only=True, tag="shutdown"):
    """Close halves of further connections, and compare what each end sees.

    Writing: the agent reads `bytes` bytes and then the end, and its answer of as many comes back, unless
    `answer` is none; an own write fails with EPIPE. Reading, at either end: the other end's write gives
    `deaf`.
    """

    op: ClassVar[str] = "shutdown"
    bytes: int
    type: SocketType = SocketType.STREAM
    answer: Answer = Answer.WHOLE
    deaf: Deaf = Deaf.REFUSED


class Exchange(_Step, frozen=True, kw_only=True, tag="exchange"):
    """Say `say` by the client's tool, read as many bytes as `hear` has, compare."""

    op: ClassVar[str] = "exchange"
    say: str
    hear: str


class Copy(_Step, frozen=True, kw_only=True, tag="copy"):
    """Read `bytes` bytes more of what the client's tool copies, compare with nbdkit's pattern."""

    op: ClassVar[str] = "copy"
    bytes: int


Step: TypeAlias = (
    Echo
    | Ping
    | Send
    | Receive
    | Run
    | Start
    | Finish
    | OpenDevice
    | AskAndLeave
    | StopReading
    | Flood
    | WaitFor
    | Containers
    | MeetFault
    | Leave
    | Connect
    | Messages
    | Shutdown
    | Exchange
    | Copy
)
"""Any step."""

BULK = (Echo, Send, Receive, Flood)
"""Steps that move bytes, which are counted."""
