"""The multiplexing proxy beside a pod: it has the host's end of one serial port, and many clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from harness.agent import yamux
from harness.host.process import spawn_async, stop_async
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image.store import Image
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, HostUnfit, SystemFailure
from harness.model.link import Endpoint, Link
from harness.model.proxy import filled
from harness.run.beside import Beside
from harness.vm.machine import Machine

_ENDS_WITHIN = 5.0
"""Seconds of a plain machine from SIGTERM to SIGKILL."""

_numbers = itertools.count(1)


def of_image(image: Image) -> tuple[str, ...]:
    """The command line of the reference proxy in an image."""
    program = str(image.file("proxy"))
    return (program, "-listen-socket", "unix://{listen}", "-mux-socket", "{mux}", "-sandbox", "{id}")


class Proxy(Beside):
    """A running proxy, from `beside`.

    When it listens it does not say: a refused connection is to be tried again.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, listen: Path, log: Path, machine: Machine
    ) -> None:
        super().__init__("the proxy", process, Endpoint(link=Link.SERIAL_PROXY, path=str(listen)), log)
        self.serves(machine)

    async def stop(self) -> None:
        """End it by SIGTERM.

        :raise SystemFailure: it had ended before, unasked, or it had to be killed.
        """
        await self.check()
        self.allow_end()
        how = await stop_async(self._process, terminate_after=0.0, kill_after=_ENDS_WITHIN * slowness())
        if how.killed:
            raise SystemFailure(f"the proxy (process {self.pid}) did not end in order: {how}")


@contextlib.asynccontextmanager
async def beside(
    machine: Machine, words: tuple[str, ...], folder: RunFolder, log_folder: Path
) -> AsyncIterator[Proxy]:
    """A proxy on the machine's port of the link serial-proxy, until the end of the block.

    `log_folder` gets ``proxy.log``: the command line, and what the proxy writes to stdout and stderr.

    :param words: the command line (`harness.model.proxy`); empty if this host has none.
    :raise HostUnfit: there is none.
    :raise InfrastructureError: the program is not there.
    :raise SystemFailure: on leaving, as `Proxy.stop`.
    """
    if not words:
        raise HostUnfit(
            "this host has no proxy that fits this checkout",
            ability="proxy",
            hint="vsock-harness images build proxy, or --proxy COMMAND",
        )
    number = next(_numbers)
    listen, log = folder.socket(f"{number}-proxy"), log_folder / "proxy.log"
    mux = str(machine.endpoint(Link.SERIAL_PROXY).path)
    argv = filled(words, listen=str(listen), mux=mux, pod=f"pod-{number}")
    log.write_text(shlex.join(argv) + "\n")
    process = await spawn_async(argv, folder=folder, stdout=log, stderr=log)
    proxy = Proxy(process, listen, log, machine)
    try:
        yield proxy
    except BaseException as error:
        try:
            await proxy.stop()
        except SystemFailure as trouble:
            error.add_note(str(trouble))
        raise
    else:
        await proxy.stop()
    finally:
        listen.unlink(missing_ok=True)


async def ping(machine: Machine, deadline: Deadline) -> None:
    """Return once the agent answers a yamux ping on the port where no proxy is yet.

    :raise SystemFailure: it answers something else, or the port hangs up.
    :raise DeadlinePassed: it does not answer.
    """
    sent = yamux.frame(yamux.Type.PING, yamux.SYN, 0, machine.pid)
    wanted = yamux.frame(yamux.Type.PING, yamux.ACK, 0, machine.pid)
    try:
        async with asyncio.timeout(deadline.remaining()):
            reader, writer = await asyncio.open_unix_connection(machine.endpoint(Link.SERIAL_PROXY).path)
            with contextlib.closing(writer):
                writer.write(sent)
                got = await reader.readexactly(len(wanted))
    except TimeoutError:
        raise DeadlinePassed("no answer to a yamux ping on the proxy's port") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        machine.check()
        raise SystemFailure(f"the proxy's port: {error}") from error
    if got != wanted:
        raise SystemFailure(f"a yamux ping on the proxy's port brought {got.hex()}, not {wanted.hex()}")
