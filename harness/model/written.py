"""A scenario file as it is written: what a file is held against, and what the JSON Schema is made from.

Docstrings and `help` are shown by editors through the schema. What a single type cannot say (a group's name,
a sum of counts) `harness.model.rules` checks.

`msgspec.Meta` is not used: with it, msgspec 0.22 on Python 3.11 crashed at interpreter exit three times in
ten (its issue 717).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeAlias

from msgspec import UNSET, UnsetType

from harness.model.claims import Claim
from harness.model.fault import FaultKind, While
from harness.model.halves import Answer, Deaf
from harness.model.link import Link
from harness.model.plan import Boot, Connection, Initiated, Schedule
from harness.model.program import ProgramName
from harness.model.shape import Limits, Written
from harness.model.steps import Moment, SocketType, Target, Way
from harness.model.values import (
    Argv,
    Clients,
    Errno,
    Line,
    Name,
    Running,
    Signal,
    Size,
    Times,
    Where,
)
from harness.model.writtenexpect import OneOf, Version
from harness.model.writtentools import Copy, Exchange, Program, UsedTool


class Echo(Written, frozen=True, kw_only=True):
    """Send seeded bytes, read them back, compare."""

    bytes: Size
    times: Times = 1


class Ping(Written, frozen=True, kw_only=True):
    """The smallest round trip."""

    times: Times = 1


class Send(Written, frozen=True, kw_only=True):
    """Send seeded bytes; the agent compares each with what it must be."""

    bytes: Size


class Receive(Written, frozen=True, kw_only=True):
    """Have the agent send seeded bytes; compare each with what it must be."""

    bytes: Size


class _Outcome(Written, frozen=True, kw_only=True):
    stdin: str = ""
    stdout: str | UnsetType = UNSET
    stderr: str | UnsetType = UNSET
    exit: Annotated[int, Limits(low=0, high=255)] | UnsetType = UNSET
    signal: Signal | UnsetType = UNSET


class Run(_Outcome, frozen=True, kw_only=True):
    """Run a container: feed it stdin, wait for its end, compare stdout, stderr, and exit (0) or signal."""

    argv: Argv


class Start(Written, frozen=True, kw_only=True):
    """Start a container and leave it running."""

    name: Name
    argv: Argv


class Finish(_Outcome, frozen=True, kw_only=True):
    """Feed a started container its stdin, wait for its end, compare as `run` does."""

    name: Name


class OpenDevice(Written, frozen=True, kw_only=True):
    """The agent opens this link's own guest device a second time: fact `second-open`. Write {}."""


class AskAndLeave(Written, frozen=True, kw_only=True):
    """Ask for an echo that the agent answers late, and leave without reading. Last step."""

    bytes: Size


class StopReading(Written, frozen=True, kw_only=True):
    """Ask for that much, read the first bytes, then read no more. Last step."""

    bytes: Size


class Flood(Written, frozen=True, kw_only=True):
    """Move bulk as fast as it goes, until so much is through or all others are done. Last step."""

    bytes: Size
    way: Annotated[
        Way, Limits(help="echo: to the guest and back; receive: from the guest; send: to the guest")
    ] = Way.ECHO
    piece: Annotated[
        int | UnsetType,
        Limits(low=1, high=1 << 16, help="bytes of each send() at most; else as many as there are"),
    ] = UNSET


class WaitFor(Written, frozen=True, kw_only=True):
    """Wait until every client of another group is parked (in a `wait-for`), holds, has left, or has ended."""

    group: str
    event: Moment


class Containers(Written, frozen=True, kw_only=True):
    """Wait until the agent counts exactly this many running containers, all clients' together."""

    running: Running
    within: Annotated[
        int,
        Limits(low=1, high=60, help="seconds of a plain machine that this may take, × the host's slowness"),
    ] = 10


class MeetFault(Written, frozen=True, kw_only=True, rename={"doing": "while"}):
    """Be in the middle of something when `fault` comes, and tell what that did to it, as facts."""

    doing: Annotated[
        While | dict[Where, While], Limits(help="what it is in the middle of; or one of them per link")
    ]
    within: Annotated[
        int, Limits(low=1, high=60, help="seconds after which `nothing` was seen of the fault")
    ] = 3


class Fault(Written, frozen=True, kw_only=True):
    """What is done to the system once all clients with a step `meet-fault` are at it."""

    kind: FaultKind
    group: Annotated[OneOf, Limits(help="whose clients a shim-kill kills: a group's name, or a list")] = ""


class Leave(Written, frozen=True, kw_only=True):
    """Close the connection abruptly. Last step. Write {}."""


Errnos: TypeAlias = Errno | tuple[Errno, ...]


class FailsByKernel(Written, frozen=True, kw_only=True):
    """Kernels differ: `before` and `since` a version of the host's."""

    linux: Version
    before: Errnos
    since: Errnos


class Connect(Written, frozen=True, kw_only=True):
    """Open one more connection and close it; with `fails` it must fail so."""

    to: Target
    type: SocketType = SocketType.STREAM
    fails: Annotated[
        Errnos | dict[Where, Errnos | FailsByKernel] | UnsetType,
        Limits(help="an errno's name, or those that it may be; or per link, and there also per kernel"),
    ] = UNSET


class Messages(Written, frozen=True, kw_only=True):
    """Send seeded messages of up to that many bytes over SOCK_SEQPACKET; compare how they come back."""

    bytes: Size
    times: Times = 1


class Shutdown(Written, frozen=True, kw_only=True):
    """Half-close further connections: EOF one way, that many seeded bytes the other, EPIPE after it."""

    bytes: Size
    type: SocketType = SocketType.STREAM
    answer: Annotated[
        Answer | dict[Where, Answer],
        Limits(help="whole: the other direction goes on; none: it ends as well, without a byte"),
    ] = Answer.WHOLE
    deaf: Annotated[
        Deaf | dict[Where, Deaf], Limits(help="what a write to an end that shut down reading gives")
    ] = Deaf.REFUSED


class Step(Written, frozen=True, kw_only=True):
    """One step: a mapping with exactly one key, the step's name."""

    noun: ClassVar[str] = "step"
    one_key: ClassVar[bool] = True

    echo: Echo | UnsetType = UNSET
    ping: Ping | UnsetType = UNSET
    send: Send | UnsetType = UNSET
    receive: Receive | UnsetType = UNSET
    run: Run | UnsetType = UNSET
    start: Start | UnsetType = UNSET
    finish: Finish | UnsetType = UNSET
    open_device: OpenDevice | UnsetType = UNSET
    ask_and_leave: AskAndLeave | UnsetType = UNSET
    stop_reading: StopReading | UnsetType = UNSET
    flood: Flood | UnsetType = UNSET
    wait_for: WaitFor | UnsetType = UNSET
    containers: Containers | UnsetType = UNSET
    meet_fault: MeetFault | UnsetType = UNSET
    leave: Leave | UnsetType = UNSET
    connect: Connect | UnsetType = UNSET
    messages: Messages | UnsetType = UNSET
    shutdown: Shutdown | UnsetType = UNSET
    exchange: Exchange | UnsetType = UNSET
    copy: Copy | UnsetType = UNSET


Workload: TypeAlias = Annotated[tuple[Step, ...], Limits(least=1, help="what each client does, in order")]


class Group(Written, frozen=True, kw_only=True):
    """Clients that do the same."""

    count: Annotated[Clients | dict[Where, Clients], Limits(help="how many clients")] = 1
    workload: Workload
    after: Annotated[
        str, Limits(help="the group whose clients must all hold, have left or have ended first")
    ] = ""
    connection: Annotated[
        Connection | dict[Where, Connection],
        Limits(help="own: each connects; shared: all write to and read from the first one's connection"),
    ] = Connection.OWN
    initiated: Annotated[
        Initiated | dict[Where, Initiated],
        Limits(help="host: each dials the agent; guest: the agent dials each; both: every second"),
    ] = Initiated.HOST
    elsewhere: Annotated[bool, Limits(help="true: talks to another pod than the fault is done to")] = False
    tool: Annotated[
        UsedTool | UnsetType, Limits(help="each client is a tool of the host's that speaks to a program")
    ] = UNSET


class File(Written, frozen=True, kw_only=True):
    """A scenario: what clients do over each link, and what is expected of it."""

    title: Annotated[Line, Limits(help="one line: what happens")]
    claim: Annotated[Claim, Limits(help="the row of the report that this scenario proves")] = Claim.OTHER
    about: Annotated[str, Limits(help="prose for the reader")] = ""
    links: Annotated[tuple[Link, ...], Limits(least=1, help="columns of the report; one test each")]
    long: Annotated[
        bool | tuple[Link, ...],
        Limits(help="true, or the links: `make e2e` leaves these out, `make catalogue` does not"),
    ] = False
    boot: Annotated[
        Boot | dict[Where, Boot],
        Limits(help="clone: goes on from a saved VM that was ready; cold: is booted"),
    ] = Boot.CLONE
    linux: Annotated[
        Version | UnsetType,
        Limits(help="of hosts, the oldest that can do this; older ones skip it"),
    ] = UNSET
    guest_linux: Annotated[
        Version | UnsetType,
        Limits(help="of guests, the oldest that can do this; older ones skip it"),
    ] = UNSET
    seqpacket: Annotated[
        bool, Limits(help="false: the vsock device is made without SOCK_SEQPACKET (QEMU's seqpacket=off)")
    ] = True
    schedule: Annotated[
        Schedule, Limits(help="concurrent: all at once; sequential: each leaves before the next starts")
    ] = Schedule.CONCURRENT
    drain: Annotated[
        bool, Limits(help="let the holding clients leave one by one, so that those who waited are served")
    ] = False
    programs: Annotated[
        dict[ProgramName, Program] | UnsetType,
        Limits(help="by name: other people's programs in the guest, before any client begins"),
    ] = UNSET
    fault: Annotated[Fault | UnsetType, Limits(help="what is done to the system meanwhile")] = UNSET
    clients: Annotated[
        Clients | dict[Name, Group],
        Limits(help="a number of clients that do `workload`, or groups by name"),
    ]
    workload: Annotated[Workload | UnsetType, Limits(help="what each client does")] = UNSET
    expect: Annotated[dict[Link, Any], Limits(help="per link: how many clients end in which way")]
