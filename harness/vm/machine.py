"""A running VM: QEMU's process, its monitor, the console, the sockets of its links."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

from harness.host.process import stop_async
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, HarnessError, SystemFailure, UsageError
from harness.model.link import Endpoint, Link
from harness.model.spec import MachineSpec, Qemu, Vsock
from harness.vm import commandline, ending, launch, template
from harness.vm.commandline import RamFile, VhostUser
from harness.vm.console import Console
from harness.vm.ending import Cause, End, QemuDied
from harness.vm.endpoints import Endpoints
from harness.vm.launch import Lease, Logs
from harness.vm.monitor import CommandFailed, Monitor, MonitorClosed
from harness.vm.started import driver_started

QUIT_SECONDS = 10.0
"""How long quit may take, and then SIGTERM, × slowness. A QEMU that is well is gone 0.1 s after quit."""

_STARTS_WITHIN = 60.0
"""Seconds for the guest's driver to start a vsock device that is a process."""

SETTLE_SECONDS = 2.0
"""From the monitor's EOF to the process's end: milliseconds, but for a core dump."""

_numbers = itertools.count(1)


class QemuKilled(SystemFailure):
    """QEMU obeyed neither quit nor SIGTERM and had to be killed."""


class Machine:
    """One running VM, from `Machine.start`; there is no half-made one."""

    def __init__(
        self, spec: MachineSpec, process: Process, monitor: Monitor, logs: Logs, endpoints: Endpoints
    ) -> None:
        self.pid = process.pid
        self.monitor = monitor
        self.console = Console(logs.console)
        self._spec = spec
        self._process = process
        self._logs = logs
        self._endpoints = endpoints
        self._died: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._shutdown_reason: str | None = None
        self._end_expected = False
        self._crash_expected = False

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        spec: MachineSpec,
        qemu: Qemu,
        folder: RunFolder,
        *,
        log_folder: Path,
        deadline: Deadline,
        lease: Lease | VhostUser | None = None,
        ram: RamFile | None = None,
        incoming: Path | None = None,
    ) -> AsyncIterator[Machine]:
        """A VM that runs: QEMU has made all devices, the monitor answers; the guest only begins to boot.

        With `incoming`, a device state saved by `template.save`, and `ram`, the memory it belongs to, it goes
        on where that machine was saved, instead of booting.

        `log_folder`, made if missing and this machine's own, gets ``qemu.cmdline``, ``qemu.stderr``,
        ``qmp.jsonl`` and ``console.log``. `lease` is for a cold vsock device, or for one that was plugged in
        when the machine was saved; QEMU then holds it alone. A device that is a process listens already.
        Start machines from the main thread: QEMU dies with the thread that started it (prctl(2)).

        Leaving goes by `quit`. An exception that comes through gets notes about a guest crash, an unasked
        end and a kill; without one these are raised.

        :raise QemuDidNotStart: QEMU exited or was silent until `deadline`.
        :raise GuestCrashed, SystemFailure, QemuDied, QemuKilled: on leaving, see `check` and `quit`.
        """
        if lease is not None and spec.vsock is not Vsock.COLD and incoming is None:
            raise UsageError(f"machine {spec.name}: a lease at start, but vsock is {spec.vsock}, not cold")
        async with contextlib.AsyncExitStack() as stack:
            logs = Logs(log_folder)
            serial = sorted(link for link in spec.links if link.is_serial_port)
            paths = {link: folder.socket(f"{next(_numbers)}-{link}") for link in serial}
            process, qmp = await launch.spawn(
                stack, spec, qemu, folder, logs, paths, lease, ram, incoming is not None
            )
            monitor = await launch.session(stack, process, qmp, logs, deadline)
            if incoming is not None:
                await template.restore(monitor, incoming, deadline)
            endpoints = Endpoints(paths, lease)
            machine = cls(spec, process, monitor, logs, endpoints)
            watch = asyncio.create_task(machine._watch())
            stack.callback(watch.cancel)
            try:
                yield machine
            except BaseException as error:
                for trouble in await machine._leave():
                    error.add_note(str(trouble))
                raise
            troubles = await machine._leave()
            if troubles:
                for further in troubles[1:]:
                    troubles[0].add_note(str(further))
                raise troubles[0]

    @property
    def died(self) -> asyncio.Future[End]:
        """How the VM ends, as soon as it does, asked for or not. Cancelling it disturbs nobody else.

        QEMU still runs after `Cause.GUEST_PANICKED` and, mostly, `Cause.INTERNAL_ERROR`.
        """
        return asyncio.shield(self._died)

    def allow_end(self, *, crash: bool = False) -> None:
        """From now on this VM may end without `check` and leaving taking it for a failure.

        :param crash: its kernel may crash, too.
        """
        self._end_expected = True
        self._crash_expected = crash

    def check(self) -> None:
        """Raise if something went wrong with this VM so far; look here before blaming a client's error.

        :raise GuestCrashed: its kernel reported a panic, an oops, a warning; the error quotes it.
        :raise SystemFailure: the guest reset itself or powered off, unasked.
        :raise QemuDied: QEMU ended unasked, or its accelerator gave up.
        """
        if not self._crash_expected:
            self.console.check()
        if self._died.done() and not self._end_expected:
            end = self._died.result()
            raise end.error(self._spec.name, stderr=self._logs.qemu_said(), console=self.console.tail())

    def endpoint(self, link: Link) -> Endpoint:
        """Where clients reach the agent over `link`; where its proxy does if the link is proxied.

        :raise UsageError: this machine has no such link, or its vsock isn't plugged in.
        """
        return self._endpoints.of(link, self._spec.name)

    async def plug_vsock(
        self, lease: Lease | VhostUser, deadline: Deadline | None = None, *, seqpacket: bool = True
    ) -> None:
        """Plug in a vhost-vsock-pci that holds `lease`, which is QEMU's alone afterwards.

        Or a vhost-user-vsock-pci, whose process reads and writes the machine's memory: it has to be shared.
        The guest needs a moment to find it: wait for the agent, not for this. (Only of a process it is known
        here, and waited for, when the guest's driver has started it.)

        :param seqpacket: False makes it without SOCK_SEQPACKET.
        :raise UsageError: the spec's vsock isn't hotplug, one is plugged in already, or a process is to be
            without SOCK_SEQPACKET, which only it can decide.
        :raise CommandFailed: QEMU refused it.
        """
        if self._spec.vsock is not Vsock.HOTPLUG or self._endpoints.vsock is not None:
            raise UsageError(
                f"machine {self._spec.name}: no free port for a vsock device",
                detail=f"vsock is {self._spec.vsock}, plugged in: {self._endpoints.vsock or 'none'}",
            )
        if isinstance(lease, VhostUser) and not seqpacket:
            raise UsageError(f"machine {self._spec.name}: vhost-user-vsock-pci has no seqpacket=off")
        place = {"id": commandline.VSOCK_ID, "bus": commandline.HOTPLUG_BUS}
        if isinstance(lease, VhostUser):
            address = {"type": "unix", "data": {"path": str(lease.socket)}}
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            await self.monitor.execute("chardev-add", {"id": commandline.VHOST_USER_ID, "backend": backend})
            device: dict[str, object] = {
                "driver": "vhost-user-vsock-pci",
                "chardev": commandline.VHOST_USER_ID,
            }
        else:
            await self.monitor.send_fd(lease.fd, "vhost")
            device = {"driver": "vhost-vsock-pci", "guest-cid": lease.cid, "vhostfd": "vhost"}
            device |= {} if seqpacket else commandline.SEQPACKET_OFF
        await self.monitor.execute("device_add", {**device, **place}, deadline=deadline)
        if isinstance(lease, VhostUser):
            # A client that comes to the process too early is its end (docs/decisions.md).
            await driver_started(self.monitor, commandline.VSOCK_ID, deadline or Deadline(_STARTS_WITHIN))
        else:
            launch.let_go(lease)
        self._endpoints.plugged(lease)

    async def unplug_vsock(self, deadline: Deadline) -> None:
        """Take the vsock device out; returns when the guest has let it go, which also frees the CID.

        :raise SystemFailure: the guest refused.
        :raise DeadlinePassed: the guest has not let it go in time; it may still.
        :raise CommandFailed: there is none, or it can't be unplugged.
        """
        with self.monitor.events("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR") as events:
            await self.monitor.execute("device_del", {"id": commandline.VSOCK_ID})
            # The device's virtio-backend is reported first, without an id.
            while (event := await events.get(deadline)).get("data", {}).get("device") != commandline.VSOCK_ID:
                pass
        if event["event"] != "DEVICE_DELETED":
            raise SystemFailure(f"machine {self._spec.name}: the guest refused to unplug vsock")
        if self._endpoints.vsock is not None and self._endpoints.vsock.link is Link.HYBRID_VSOCK:
            await self.monitor.execute("chardev-remove", {"id": commandline.VHOST_USER_ID})
        self._endpoints.plugged(None)

    async def quit(self, step_seconds: float = QUIT_SECONDS) -> None:
        """End the VM: QMP quit, then SIGTERM, then SIGKILL, `step_seconds` × slowness between them.

        Then QEMU is gone. Nothing happens if QEMU has exited already.

        :raise QemuKilled: SIGKILL was needed.
        :raise QemuDied: it ended, but by a crash or with an error.
        :raise InfrastructureError: it outlived even that (stuck in the kernel).
        """
        if self._process.returncode is not None:
            return
        if not self._died.done():
            self._end_expected = True
        step = step_seconds * slowness()
        how = await stop_async(self._process, self._ask_to_quit, terminate_after=step, kill_after=step)
        if how.killed:
            raise QemuKilled(
                f"machine {self._spec.name}: QEMU (pid {self.pid}) obeyed neither quit nor SIGTERM: {how}",
                detail=self._logs.qemu_said(),
                hint="qmp.jsonl shows the last thing it answered",
            )
        if how.returncode != 0:
            raise QemuDied(
                f"machine {self._spec.name}: QEMU (pid {self.pid}) did not end in order: {how}",
                detail=self._logs.qemu_said(),
                hint="the exit code should be 0; a negative one is a signal's number",
            )

    async def _ask_to_quit(self) -> None:
        # A connection that ends before the answer means that it is going.
        with contextlib.suppress(MonitorClosed):
            await self.monitor.execute("quit", deadline=Deadline(None))

    async def kill(self) -> None:
        """Kill QEMU at once, as a fault; what follows from it is expected. Returns when it is gone."""
        self._end_expected = True
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _watch(self) -> None:
        with contextlib.suppress(MonitorClosed):
            await self._watch_events()
        code = await self._process.wait()
        self._set_died(ending.of_exit(code, self._shutdown_reason, self._logs.qemu_said()))

    async def _watch_events(self) -> None:
        """Until the monitor closes, which it does when QEMU ends."""
        with self.monitor.events("SHUTDOWN", "GUEST_PANICKED", "STOP") as events:
            while True:
                event = await events.get(Deadline(None))
                if event["event"] == "SHUTDOWN":
                    self._shutdown_reason = event["data"].get("reason", "")
                elif event["event"] == "GUEST_PANICKED":
                    self._set_died(End(cause=Cause.GUEST_PANICKED, text="the guest's kernel panicked"))
                else:
                    # KVM's giving up has no event of its own: it stops the guest.
                    with contextlib.suppress(CommandFailed, DeadlinePassed):
                        status = await self.monitor.execute("query-status")
                        self._set_died(ending.of_status(status["status"]))

    def _set_died(self, end: End | None) -> None:
        if end is not None and not self._died.done():
            self._died.set_result(end)

    async def _leave(self) -> list[HarnessError]:
        """End the VM; what was wrong, first things first."""
        troubles: list[HarnessError] = []
        if self._process.returncode is not None or self.monitor.closed:
            # It has just ended: what the watch makes of it is to be known before it is asked to quit.
            await asyncio.wait({self.died}, timeout=SETTLE_SECONDS)
        try:
            self.check()
        except HarnessError as error:
            troubles.append(error)
        try:
            await self.quit()
        except HarnessError as error:
            troubles.append(error)
        return troubles
