"""What a guest's agent knows of a fault afterwards."""

from __future__ import annotations

import contextlib
import time

from harness.guest.client import AgentClient
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed, HarnessError
from harness.model.fault import Fault, FaultKind
from harness.model.link import Endpoint, Link
from harness.model.plan import GroupPlan, Initiated, Plan
from harness.model.sayable import ASKED
from harness.model.steps import MeetFault
from harness.run.meeting import After, GuestEnd

_ENDS_IN_GUEST = frozenset(
    {
        FaultKind.SHIM_KILL,
        FaultKind.PROXY_KILL,
        FaultKind.UNPLUG,
        FaultKind.UNBIND,
        FaultKind.RESTORE,
    }
)
"""Faults that end connections in a guest that lives."""

_CUTS_ALL = frozenset({FaultKind.PROXY_KILL, FaultKind.UNPLUG, FaultKind.UNBIND, FaultKind.RESTORE})
"""Of these, all connections of the link: no container is left then."""

ANSWERS = 3.0
"""Seconds of a plain machine for an answer of the agent."""


_DEAF = frozenset({Link.VIRTCONSOLE, Link.ISA_SERIAL})
"""Where a guest is not told that its client has gone: the agent keeps the containers."""


def control_link(link: Link) -> Link:
    """The link by which a fault's own words reach the agent: another than the clients'."""
    return Link.VSOCK if link is Link.VIRTIO_SERIAL else Link.VIRTIO_SERIAL


def has_one_client(link: Link) -> bool:
    """Whether who asks there may have to wait behind another, for ever."""
    return link.is_serial_port and not link.is_proxied


def _hit(plan: Plan, fault: Fault) -> set[str]:
    """The clients whose own connections the fault is about."""
    meeting = [group for group in plan.groups if any(isinstance(step, MeetFault) for step in group.workload)]
    groups = [
        group for group in meeting if not group.elsewhere and (not fault.group or fault.kills(group.name))
    ]
    return {client for group in groups for client in group.clients if not _is_called(group, client)}


def _is_called(group: GroupPlan, client: str) -> bool:
    """Whether the guest connects to it again and again: that has no end that surely comes."""
    connects = any(isinstance(step, MeetFault) and not step.doing.has_connection for step in group.workload)
    return connects and group.opener(group.clients.index(client)) is Initiated.GUEST


def _ending(plan: Plan, fault: Fault) -> set[str]:
    """The clients whose connections end in the guest: its agent hears of that in its own time.

    A serial port's does not end with its client, only with the port; and of a proxy that has another in its
    place when the guest goes on it hears by that one's first client.
    """
    alone = has_one_client(plan.link) and fault.kind is not FaultKind.UNPLUG
    unseen = alone or _replaced(plan, fault)
    return set() if fault.kind not in _ENDS_IN_GUEST or unseen else _hit(plan, fault)


def _replaced(plan: Plan, fault: Fault) -> bool:
    """Whether another proxy is there before the guest can see that the first one went."""
    return plan.link.is_proxied and fault.kind is FaultKind.RESTORE


class Aftermath:
    """Asks the agent, over connections of its own, about the `fault` of `plan` that was done."""

    def __init__(self, plan: Plan, fault: Fault, slowness: float) -> None:
        self._kind = fault.kind
        self._slowness = slowness
        self._hit = _hit(plan, fault)
        self._ending = _ending(plan, fault)
        shim = fault.kind is FaultKind.SHIM_KILL and has_one_client(plan.link)
        gone = shim or (fault.kind in _CUTS_ALL and not _replaced(plan, fault))
        self._empties = gone and plan.link not in _DEAF

    def answered(self, endpoint: Endpoint, patience: Deadline) -> None:
        """Return once the agent answers there: nothing tells when a guest has found its device.

        :raise DeadlinePassed: it does not.
        """

        def ask() -> bool:
            with contextlib.suppress(OSError, HarnessError):
                with AgentClient(connect(endpoint)) as client:
                    return bool(client.hello(deadline=self._soon()))
            return False

        until(ask, patience, f"the agent's answer after {self._kind}", every=0.1 * self._slowness)

    def told(self, endpoint: Endpoint, *, cut: bool = False) -> After:
        """How connections ended, when containers were removed and how many are left, as the agent says: once
        it knows of what the fault ends there, or after a while; that bounds nothing, its times do.

        :param cut: all of its clients' connections have ended, whatever the fault was.
        """
        ending = self._hit if cut else self._ending
        empties = self._empties or cut
        seen: dict[str, GuestEnd] = {}
        removed: dict[str, float] = {}
        left: int | None = None

        def ask() -> bool:
            nonlocal left
            with contextlib.suppress(OSError, HarnessError):
                with AgentClient(connect(endpoint)) as client:
                    facts = client.facts(deadline=self._soon())
                    now = time.monotonic()  # the agent's answer is older by its way here
                    for label, end in facts.ended.items():
                        seen.setdefault(label, GuestEnd(how=end.how, at=now - end.ago))
                    removed.update((label, now - ago) for label, ago in facts.removed.items())
                    left = facts.containers
                    return seen.keys() >= ending and not (empties and left)
            return False

        with contextlib.suppress(DeadlinePassed):
            until(ask, Deadline(ASKED * self._slowness), "it", every=0.1 * self._slowness)
        return After(ended=seen, containers=left, removed=removed)

    def _soon(self) -> Deadline:
        return Deadline(ANSWERS * self._slowness)
