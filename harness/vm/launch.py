"""Starting QEMU: sockets first, then the process, then a monitor that answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from harness.host.process import spawn_async
from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, InfrastructureError
from harness.model.link import Link
from harness.model.spec import MachineSpec, Qemu
from harness.vm import commandline
from harness.vm.commandline import RamFile, VhostUser, Wiring
from harness.vm.monitor import Monitor, MonitorError

BACKLOG = 1
"""What QEMU itself gives listen(2) for a socket chardev, so that a second client sees what it always sees."""


class Lease(Protocol):
    """What a machine needs of a CID lease (`harness.host.cid.CidLease`): the number and what holds it."""

    @property
    def cid(self) -> int:
        """The leased CID."""

    @property
    def fd(self) -> int:
        """An open ``/dev/vhost-vsock`` that holds it."""


class QemuDidNotStart(InfrastructureError):
    """QEMU ended, or said nothing, before the machine ran; `detail` has its words and its command line."""


class Logs:
    """The files of one machine in its log folder, which is made if missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cmdline = folder / "qemu.cmdline"
        self.stderr = folder / "qemu.stderr"
        self.qmp = folder / "qmp.jsonl"
        self.console = folder / "console.log"

    def qemu_said(self) -> str:
        """The end of what QEMU wrote to its standard output and error."""
        return self.stderr.read_text(errors="replace")[-4000:].strip()


async def spawn(
    stack: contextlib.AsyncExitStack,
    spec: MachineSpec,
    qemu: Qemu,
    folder: RunFolder,
    logs: Logs,
    paths: Mapping[Link, Path],
    device: Lease | VhostUser | None,
    ram: RamFile | None,
    incoming: bool,
) -> tuple[Process, socket.socket]:
    """Start QEMU on sockets that exist already; our end of its monitor's socket is the second result.

    `stack` then kills QEMU if it still runs and closes the socket.
    """
    with contextlib.ExitStack() as handed_over:
        ours, theirs = socket.socketpair()
        handed_over.enter_context(theirs)
        stack.callback(ours.close)
        links = {link: handed_over.enter_context(_listen(path)) for link, path in paths.items()}
        for path in paths.values():
            stack.callback(path.unlink, missing_ok=True)
        lease = None if isinstance(device, VhostUser) else device
        wiring = Wiring(
            qmp_fd=theirs.fileno(),
            console=logs.console,
            link_fds={link: listener.fileno() for link, listener in links.items()},
            cid=lease.cid if lease else None,
            vhost_fd=lease.fd if lease else None,
            vhost_user=device if isinstance(device, VhostUser) else None,
            ram=ram,
            incoming=incoming,
        )
        argv = commandline.build(spec, qemu, wiring)
        logs.cmdline.write_text(" \\\n".join(shlex.quote(arg) for arg in argv) + "\n")
        process = await spawn_async(
            argv,
            folder=folder,
            stdout=logs.stderr,
            stderr=logs.stderr,
            pass_fds=[wiring.qmp_fd, *wiring.link_fds.values(), *([lease.fd] if lease else [])],
            env={**os.environ, **qemu.env},
        )
        await stack.enter_async_context(_held(process))
        if lease is not None:
            let_go(lease)
        return process, ours


@contextlib.asynccontextmanager
async def _held(process: Process) -> AsyncIterator[None]:
    """Leaving kills what still runs: only after a cancellation, or when the start fails."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def let_go(lease: Lease) -> None:
    """Close our copy of what holds the lease, so that QEMU, which has its own, is the last holder.

    With a copy of ours, QEMU's death would reset no connection and free no CID: both happen on the last
    close (vhost_vsock_dev_release in drivers/vhost/vsock.c). The number goes on as ``/dev/null`` until the
    lease's owner closes it, so it can't come to mean another file.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(null, lease.fd, inheritable=False)
    finally:
        os.close(null)


def _listen(path: Path) -> socket.socket:
    """Bound before QEMU starts, so that a client never comes too early."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InfrastructureError(f"cannot listen on {path}: {error.strerror}") from error
    return listener


async def session(
    stack: contextlib.AsyncExitStack, process: Process, qmp: socket.socket, logs: Logs, deadline: Deadline
) -> Monitor:
    """The monitor of a QEMU that has made its devices.

    :raise QemuDidNotStart: it ended or was silent.
    """
    try:
        monitor = await stack.enter_async_context(Monitor.connect(qmp, logs.qmp, deadline))
        # The greeting comes before the devices are made; an answer comes after.
        await monitor.execute("query-status", deadline=deadline)
    except (MonitorError, DeadlinePassed) as error:
        # Its end is seen on the socket a moment before it is reaped.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)
        code = process.returncode
        how = "was silent on its monitor" if code is None else f"exited with code {code}"
        raise QemuDidNotStart(
            f"QEMU {how} before the machine ran ({error.summary})",
            detail=f"{logs.qemu_said()}\ncommand line:\n{logs.cmdline.read_text()}",
        ) from error
    return monitor
