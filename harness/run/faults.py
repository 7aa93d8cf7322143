"""Doing a fault to a pod: by its process, its monitor, or a command in its guest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from harness.guest.client import AgentClient
from harness.guest.container import Container
from harness.host.cid import CidLease
from harness.host.runfolder import RunFolder
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from harness.model.fault import Fault, FaultKind
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.spec import MachineSpec, Qemu
from harness.run import templates
from harness.run.aftermath import ANSWERS, Aftermath, control_link
from harness.run.meeting import After, Done
from harness.run.place import Place
from harness.run.pod import Pod
from harness.run.proxy import beside
from harness.vm import ports, template
from harness.vm.commandline import RamFile
from harness.vm.machine import Machine

_DRIVER = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport"

IN_GUEST = {
    # $PPID is the agent's own process: it starts containers itself
    FaultKind.AGENT_KILL: "kill -9 $PPID",
    # kernel.panic=0: it stays as it is instead of rebooting
    FaultKind.GUEST_PANIC: "echo 0 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger",
    FaultKind.UNBIND: (
        f"echo $device > {_DRIVER}/unbind; echo unbind: $? > /dev/ttyS0; read line; "
        f"echo $device > {_DRIVER}/bind; echo bind: $? > /dev/ttyS0; read line"
    ),
}
"""What a command in the guest does. It is started before the fault and waits for a line, to be quick then."""

_ARMED = f"cd {_DRIVER}; device=$(echo virtio*); read line; "

_DEAD = frozenset({FaultKind.QEMU_KILL, FaultKind.QEMU_QUIT, FaultKind.GUEST_PANIC, FaultKind.AGENT_KILL})
"""After these there is no agent to ask."""

_COMES_BACK = frozenset({FaultKind.GUEST_RESET, FaultKind.UNPLUG, FaultKind.UNBIND, FaultKind.RESTORE})
"""After these the agent is reached again when its guest has got as far."""

_MAYBE = frozenset({FaultKind.UNBIND})
"""After these it may not be, nor after any on hybrid-vsock, whose device may be deaf; then clients tell."""


class Copying(msgspec.Struct, frozen=True, kw_only=True):
    """What a restored copy of a VM is made from.

    `state` is the file in which it is saved, `memory` the one in which its memory is anyway, if it is
    (`harness.run.pod.Pod`). `proxy` is the command line of another one, for a link that has one.
    """

    spec: MachineSpec
    qemu: Qemu
    folder: RunFolder
    log_folder: Path
    state: Path
    memory: RamFile | None
    proxy: tuple[str, ...]


def copying(place: Place, pod: Pod, log_folder: Path) -> Copying:
    """For `pod`, a clone of this place's template; the copy's logs go into a folder in `log_folder`."""
    name = f"copy-{next(_numbers)}"
    return Copying(
        spec=templates.spec(place),
        qemu=place.qemu,
        folder=place.folder,
        log_folder=log_folder / name,
        state=place.folder.path / f"{name}.state",
        memory=pod.memory,
        proxy=place.proxy,
    )


_numbers = itertools.count(1)


class PodFault:
    """The fault of `plan` for its pod, from `prepared`; a `harness.run.meeting.Deed`."""

    def __init__(self, plan: Plan, fault: Fault, pod: Pod, slowness: float, copying: Copying | None) -> None:
        self.machine = pod.machine
        """The pod's VM; after a restore its copy."""
        self._plan = plan
        self._kind = fault.kind
        self._arrival = pod.arrival
        self._proxy = pod.proxy
        self._device = pod.device
        self._copying = copying
        self._slowness = slowness
        self._aftermath = Aftermath(plan, fault, slowness)
        self._armed: Container | None = None
        self._stack = contextlib.AsyncExitStack()
        self._arms = self._stack.enter_context(contextlib.ExitStack())
        self._doing: Mapping[FaultKind, Callable[[], Awaitable[object]]] = {
            FaultKind.QEMU_KILL: self.machine.kill,
            FaultKind.QEMU_QUIT: self.machine.quit,
            FaultKind.GUEST_RESET: self._reset,
            FaultKind.PAUSE: partial(self.machine.monitor.execute, "stop"),
            FaultKind.PROXY_KILL: self._kill_proxy,
            FaultKind.UNPLUG: self._unplug,
            FaultKind.RESTORE: self.machine.quit,
            **dict.fromkeys(IN_GUEST, self._trigger),
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def prepared(
        cls, plan: Plan, pod: Pod, slowness: float, copying: Copying | None = None
    ) -> AsyncIterator[PodFault | None]:
        """The plan's fault, ready to be done at once; None if it has none.

        :param copying: what a restore needs.
        :raise HarnessError: the agent does not answer; or, on leaving, what is wrong with a restored copy.
        """
        if plan.fault is None:
            yield None
            return
        fault = cls(plan, plan.fault, pod, slowness, copying)
        async with fault._stack:
            if plan.fault.kind in IN_GUEST:
                await asyncio.to_thread(fault._start, _ARMED + IN_GUEST[plan.fault.kind])
            yield fault

    async def do(self, kill: Callable[[], None]) -> Done:
        """See `harness.run.meeting.Deed`. A restore begins as the VM is stopped, and is done as it ends."""
        self.machine.allow_end(crash=self._kind is FaultKind.GUEST_PANIC)
        if self._proxy:
            self._proxy.allow_end()  # what its clients see is judged
        began = at = time.monotonic()
        if self._kind is FaultKind.RESTORE and self._copying:
            await template.save(self.machine.monitor, self._copying.state, self._later())
            at = time.monotonic()
        if self._kind is FaultKind.SHIM_KILL:
            kill()
        else:
            await self._doing[self._kind]()
        return Done(began=began, at=at)

    async def undo(self) -> After:
        """See `harness.run.meeting.Deed`."""
        moved = False
        match self._kind:
            case FaultKind.PAUSE:
                await self.machine.monitor.execute("cont")
            case FaultKind.UNBIND:
                await self._trigger()
            case FaultKind.UNPLUG if self._plan.link.is_serial_port:
                await ports.plug_agent_port(self.machine.monitor, self._plan.link, self._soon())
            case FaultKind.UNPLUG if self._device:
                await self.machine.plug_vsock(self._device.sockets, self._soon())
            case FaultKind.UNPLUG:
                lease = self._stack.enter_context(CidLease.claim())
                await self.machine.plug_vsock(lease, self._soon())
                moved = True
            case FaultKind.RESTORE:
                await self._restore()
                moved = True
            case kind if kind in _DEAD:
                return After(agent=False)
            case FaultKind.GUEST_RESET:
                await self._arrival.again(self.machine, self._later())
        endpoint = self._endpoint() if moved else None
        if self._kind in _COMES_BACK:
            reached = self._reached()
            maybe = self._kind in _MAYBE or reached.link is Link.HYBRID_VSOCK
            patience = Deadline(2 * ANSWERS * self._slowness) if maybe else self._later()
            with contextlib.suppress(*([DeadlinePassed] if maybe else [])):
                await asyncio.to_thread(self._aftermath.answered, reached, patience)
        if self._kind is FaultKind.GUEST_RESET:  # its new agent knows nothing of the connections before
            return After()
        self._arms.close()  # on a serial port it has the only place, and who asks now would wait behind it
        asked = self.machine.endpoint(control_link(self._plan.link))
        cut = self._proxy is not None and self._proxy.over
        after = await asyncio.to_thread(self._aftermath.told, asked, cut=cut)
        return msgspec.structs.replace(after, endpoint=endpoint)

    async def _unplug(self) -> None:
        if self._plan.link.is_serial_port:
            await ports.unplug_agent_port(self.machine.monitor, self._plan.link, self._soon())
        else:
            await self.machine.unplug_vsock(self._soon())

    def _reached(self) -> Endpoint:
        """Where the agent is asked whether it is back: not where a client may still have the only place, nor
        by a proxy, nor by a process's vsock device after a reset, which leaves that deaf."""
        link = self._plan.link
        deaf = link is Link.HYBRID_VSOCK and self._kind is FaultKind.GUEST_RESET
        return self.machine.endpoint(link if link.is_vsock and not deaf else control_link(link))

    def _endpoint(self) -> Endpoint:
        """Where clients of the plan find the agent now."""
        if self._plan.link.is_proxied and self._proxy:
            return self._proxy.endpoint
        return self.machine.endpoint(self._plan.link)

    async def _reset(self) -> None:
        # a machine of ours ends at a reset, so that one that nobody asked for is seen
        await self.machine.monitor.execute("set-action", {"reboot": "reset"})
        await self.machine.monitor.execute("system_reset")

    async def _kill_proxy(self) -> None:
        assert self._proxy is not None
        os.kill(self._proxy.pid, signal.SIGKILL)
        await self._proxy.ended()

    async def _restore(self) -> None:
        """Let a copy go on; its vsock device has a CID of its own, its port a proxy of its own, if any."""
        assert self._copying is not None
        link = self._plan.link
        has_vsock = Link.VSOCK in (link, control_link(link))
        lease = self._stack.enter_context(CidLease.claim()) if has_vsock else None
        copy = Machine.start(
            self._copying.spec,
            self._copying.qemu,
            self._copying.folder,
            log_folder=self._copying.log_folder,
            deadline=self._later(),
            lease=lease,
            ram=self._copying.memory,
            incoming=self._copying.state,
        )
        self.machine = await self._stack.enter_async_context(copy)
        self._copying.state.unlink()
        if link.is_proxied:
            proxied = beside(
                self.machine, self._copying.proxy, self._copying.folder, self._copying.log_folder
            )
            self._proxy = await self._stack.enter_async_context(proxied)

    async def _trigger(self) -> None:
        assert self._armed is not None
        await asyncio.to_thread(self._armed.write_stdin, b"\n", deadline=self._soon())

    def _start(self, script: str) -> None:
        sock = connect(self.machine.endpoint(control_link(self._plan.link)))
        client = self._arms.enter_context(AgentClient(sock))
        self._armed = client.start(["sh", "-c", script], deadline=self._soon())

    def _soon(self) -> Deadline:
        return Deadline(ANSWERS * self._slowness)

    def _later(self) -> Deadline:
        return Deadline(self._arrival.seconds * self._slowness)
