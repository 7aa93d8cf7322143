"""The process that is a pod's vsock device on the link hybrid-vsock: Debian's vhost-device-vsock.

It is one end of the guest's vsock, without the kernel's vhost. Clients of the host connect to its Unix socket
and say which port they want (`harness.link.connect`); what the guest connects to, it looks for at
``SOCKET_PORT`` (`harness.link.listen`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from harness.host.process import spawn_async, stop_async
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.host.unixsocket import listening
from harness.image import tree
from harness.image.store import Image
from harness.model.deadline import Deadline, until
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.run.beside import Beside
from harness.vm.commandline import VhostUser

IMAGE = "vhost-device-vsock"
"""The image it comes from."""

GUEST_CID = 3
"""What every guest of this link is called, as Kata has it: no other VM of the host is reached through it."""

_PROGRAM = "usr/bin/vhost-device-vsock"
_STARTS_WITHIN = 10.0
_ENDS_WITHIN = 5.0
"""Seconds from SIGTERM to SIGKILL."""

_FICLONE = 0x40049409
"""ioctl_ficlone(2): the copy shares the file's blocks."""

_numbers = itertools.count(1)


def of_image(image: Image) -> tuple[str, ...]:
    """The program in its image, run by its own loader."""
    return tuple(tree.command(image.file("tree"), _PROGRAM))


class Device(Beside):
    """A running vhost-device-vsock, from `running`. `sockets` is where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, sockets: VhostUser, log: Path) -> None:
        endpoint = Endpoint(link=Link.HYBRID_VSOCK, path=str(sockets.uds), port=AGENT_PORT)
        super().__init__("vhost-device-vsock", process, endpoint, log)
        self.sockets = sockets

    def listens(self) -> bool:
        """Whether it has come to listen on both of its sockets.

        :raise InfrastructureError: it ended instead.
        """
        if self._process.returncode is not None:
            raise InfrastructureError(
                f"vhost-device-vsock ended with {self._process.returncode} before it listened",
                detail=self._last_words(),
            )
        return {str(self.sockets.socket), str(self.sockets.uds)} <= listening()


@contextlib.asynccontextmanager
async def running(words: tuple[str, ...], folder: RunFolder, log_folder: Path) -> AsyncIterator[Device]:
    """A device that listens for a QEMU and for clients, until the end of the block; end the QEMU before it.

    `log_folder` gets ``vhost-device-vsock.log``: the command line, and what it writes to stdout and stderr.

    :param words: the program (`of_image`); empty if this host has none.
    :raise HostUnfit: there is none.
    :raise InfrastructureError: it does not come to listen.
    """
    if not words:
        raise HostUnfit(
            "this host has no vhost-device-vsock that fits this checkout",
            ability=IMAGE,
            hint=f"vsock-harness images build {IMAGE}",
        )
    number = next(_numbers)
    sockets = VhostUser(socket=folder.socket(f"{number}-vhost"), uds=folder.socket(f"{number}-hybrid"))
    options = f"guest-cid={GUEST_CID},socket={sockets.socket},uds-path={sockets.uds}"
    log = log_folder / "vhost-device-vsock.log"
    argv = [*words, "--vm", options]
    _begin(log, shlex.join(argv))
    process = await spawn_async(argv, folder=folder, stdout=log, stderr=log)
    device = Device(process, sockets, log)
    try:
        deadline = Deadline(_STARTS_WITHIN * slowness())
        await asyncio.to_thread(until, device.listens, deadline, "vhost-device-vsock's listening")
        yield device
    finally:
        device.allow_end()
        # It has nothing to bring to an end once its VM is gone, and mostly has ended with it.
        await stop_async(process, terminate_after=0.0, kill_after=_ENDS_WITHIN * slowness())
        for path in (sockets.socket, sockets.uds):
            path.unlink(missing_ok=True)


def _begin(log: Path, line: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{line}\n")


@contextlib.asynccontextmanager
async def copied(file: Path, folder: RunFolder) -> AsyncIterator[Path]:
    """A copy of a sparse file in `folder`, as sparse, until the end of the block.

    Guest memory that a vhost-user process works in has to be shared with it, so it can't be a private view of
    the template's, which is how clones of other links have theirs.

    :raise InfrastructureError: it can't be written.
    """
    copy = folder.path / f"{next(_numbers)}-ram"
    try:
        await asyncio.to_thread(copy_sparse, file, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def copy_sparse(file: Path, copy: Path) -> None:
    """Copy what of `file` is data; on file systems that can, only its blocks' addresses.

    :raise InfrastructureError: it can't be read or written.
    """
    try:
        with file.open("rb") as source, copy.open("xb") as target:
            try:
                fcntl.ioctl(target, _FICLONE, source.fileno())
            except OSError:  # another file system, or one that can't
                _copy_data(source.fileno(), target.fileno())
    except OSError as error:
        raise InfrastructureError(
            f"{file} can't be copied to {copy}: {error.strerror}", hint="is there space? df"
        ) from error


def _copy_data(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.truncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data
                return
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            at += os.sendfile(target, source, at, end - at)
