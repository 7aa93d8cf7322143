"""A scenario resolved for one link: everything the run and the judge need, and nothing else.

A `Plan` goes to other processes and into a run's folder as JSON: ``msgspec.json.encode(plan)`` and
``msgspec.json.decode(data, type=Plan)`` give an equal plan back.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.model.claims import Claim
from harness.model.errors import HostUnfit
from harness.model.expect import Expectation, version_of
from harness.model.fault import Fault, FaultKind
from harness.model.link import Link
from harness.model.program import ProgramPlan, ToolPlan
from harness.model.steps import Connect, Step


class Boot(StrEnum):
    """How the VM comes to be."""

    CLONE = "clone"  # restored from a saved, ready machine; the vsock device plugged in
    COLD = "cold"  # booted from nothing; the vsock device on QEMU's command line


class Schedule(StrEnum):
    """How the clients of all groups are run."""

    CONCURRENT = "concurrent"  # all groups that have no `after` at once
    SEQUENTIAL = "sequential"  # one client after the other, each leaves before the next starts


class Connection(StrEnum):
    """Whose connection a client uses."""

    OWN = "own"  # each client connects
    SHARED = "shared"  # the first connects; all processes of the group write to and read from that one


class Initiated(StrEnum):
    """Who opens a client's connection."""

    HOST = "host"  # the client dials the agent
    GUEST = "guest"  # the agent dials a port that the client holds on the host
    BOTH = "both"  # of a group: every second client's by the guest, beginning with the second


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` clients that each do `workload`.

    `after`: the group that must hold, have left or have ended, all of it, before a client of this one starts.
    `elsewhere`: its clients talk to another pod, beside the one that the scenario is about.
    `tool`: each client is this tool of the host's; None if each is one of the agent's.
    """

    name: str
    count: int
    workload: tuple[Step, ...]
    after: str | None = None
    connection: Connection = Connection.OWN
    initiated: Initiated = Initiated.HOST
    elsewhere: bool = False
    tool: ToolPlan | None = None

    @property
    def clients(self) -> tuple[str, ...]:
        """The clients' names in the trace: ``group/0`` to ``group/(count - 1)``."""
        return tuple(f"{self.name}/{index}" for index in range(self.count))

    def opener(self, index: int) -> Initiated:
        """Who opens the connection of the client with that number: the host or the guest."""
        if self.initiated is Initiated.BOTH:
            return Initiated.GUEST if index % 2 else Initiated.HOST
        return self.initiated

    def on_kernel(self, release: str) -> GroupPlan:
        """This, with how its connections fail on a host whose kernel is `release` (uname(2))."""
        workload = (step.on_kernel(release) if isinstance(step, Connect) else step for step in self.workload)
        return msgspec.structs.replace(self, workload=tuple(workload))


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run on one link, and what to expect of it. `groups` are in the file's order.

    `seqpacket`: whether the vsock device has SOCK_SEQPACKET. `programs` are in the guest, some running.
    `linux`: the oldest kernel of a host that can do this; None if all can. `guest_linux`: of a guest.
    """

    scenario: str
    title: str
    claim: Claim
    link: Link
    boot: Boot
    schedule: Schedule
    drain: bool
    groups: tuple[GroupPlan, ...]
    expect: Expectation
    seqpacket: bool = True
    linux: str | None = None
    guest_linux: str | None = None
    fault: Fault | None = None
    programs: tuple[ProgramPlan, ...] = ()

    def on_kernel(self, release: str, guest: str) -> Plan:
        """This, as is expected on a host whose kernel is `release` (uname(2)), of a guest whose is `guest`.

        :raise HostUnfit: one is older than `linux` or `guest_linux`.
        """
        _at_least(self.linux, release, "on the host", "linux")
        _at_least(self.guest_linux, guest, "in the guest", "guest-linux")
        groups = tuple(group.on_kernel(release) for group in self.groups)
        return msgspec.structs.replace(self, groups=groups, expect=self.expect.on_kernel(release, guest))

    def stretched(self, slowness: float) -> Plan:
        """This, with what is expected on a host that is so many times slower than a plain machine."""
        return msgspec.structs.replace(self, expect=self.expect.stretched(slowness))

    @property
    def only_cloned(self) -> str:
        """Why its pod can't be booted cold; empty if it can."""
        match self.fault.kind if self.fault else None:
            case FaultKind.RESTORE:
                return "a VM is restored with the memory and the command line of a clone"
            case FaultKind.UNPLUG if self.link.is_vsock:
                return "a vsock device that was there at boot is in no port that it can be unplugged from"
        return ""

    @property
    def clients(self) -> tuple[str, ...]:
        """All clients' names, group by group."""
        return tuple(client for group in self.groups for client in group.clients)

    @property
    def spoken_to(self) -> ProgramPlan | None:
        """The program that has a serial port of its own on a serial link: tools speak to it."""
        names = {group.tool.to for group in self.groups if group.tool}
        return next((one for one in self.programs if one.name in names), None)


def _at_least(wanted: str | None, release: str, where: str, ability: str) -> None:
    """:raise HostUnfit: the kernel `release` is older than `wanted`."""
    if wanted and version_of(release) < version_of(wanted):
        summary = f"this needs Linux {wanted} or later {where}, here is {release}"
        raise HostUnfit(summary, ability=f"{ability}-{wanted}")
