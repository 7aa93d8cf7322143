"""QEMU's monitor: the only place that uses qemu.qmp.

Protocol: QEMU docs/interop/qmp-spec.rst. Commands and events: docs/interop/qemu-qmp-ref.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError, Runstate
from qemu.qmp.events import EventListener
from qemu.qmp.protocol import StateError

from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed, InfrastructureError

REPLY_SECONDS = 60.0
"""How long a command may take when the caller says nothing; QEMU answers in milliseconds unless it hangs."""


class MonitorError(InfrastructureError):
    """Talking to QEMU's monitor failed. `command` is what was being done."""

    def __init__(self, summary: str, *, command: str, detail: str = "") -> None:
        super().__init__(summary, detail=detail, hint="the whole conversation is in qmp.jsonl")
        self.command = command


class CommandFailed(MonitorError):
    """QEMU answered a command with an error: its `error_class` and its text `description`."""

    def __init__(self, command: str, arguments: Mapping[str, object], error_class: str, text: str) -> None:
        super().__init__(
            f"QMP {command}: {error_class}: {text}",
            command=command,
            detail=f"arguments: {json.dumps(arguments, default=str)}",
        )
        self.arguments = dict(arguments)
        self.error_class = error_class
        self.description = text


class MonitorClosed(MonitorError):
    """The connection ended: before the command, or before its answer (then nobody knows if it was done)."""


class Events:
    """The events of one `Monitor.events` scope, in order."""

    def __init__(self, listener: EventListener, closed: asyncio.Event, names: tuple[str, ...]) -> None:
        self._listener = listener
        self._closed = closed
        self._what = " or ".join(names) or "any event"

    async def get(self, deadline: Deadline) -> dict[str, Any]:
        """The next event: ``{"event": …, "data": …, "timestamp": …}``. What came before the end of the
        connection is still handed out.

        :raise DeadlinePassed: none came in time.
        :raise MonitorClosed: the connection ended and none is left.
        """
        event = asyncio.ensure_future(self._listener.get())
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait(
                {event, closed}, timeout=deadline.remaining(), return_when=asyncio.FIRST_COMPLETED
            )
            if event.done():
                return dict(event.result())
            if closed.done():
                raise MonitorClosed(f"QMP connection ended while waiting for {self._what}", command="")
            raise DeadlinePassed(f"QMP event {self._what}: not within {deadline.seconds:.1f} s")
        finally:
            event.cancel()
            closed.cancel()


class _Client(QMPClient):
    """Writes each message of both directions to the transcript, as sent and as received.

    What a full disk does not take is missing there; the VM goes on.
    """

    def __init__(self, transcript: FileIO) -> None:
        super().__init__()
        self._transcript = transcript

    def _note(self, way: str, message: Message) -> None:
        line = {"at": round(time.monotonic(), 6), "way": way, "message": dict(message)}
        with contextlib.suppress(OSError):
            self._transcript.write(json.dumps(line).encode() + b"\n")

    def _cb_outbound(self, msg: Message) -> Message:
        self._note("sent", msg)
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self._note("received", msg)
        return msg


class Monitor:
    """A running QMP session, from `Monitor.connect`; several tasks may use it at once."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client
        self._closed = asyncio.Event()
        self._fd_lock = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, sock: socket.socket, transcript: Path, deadline: Deadline
    ) -> AsyncIterator[Monitor]:
        """Greet and negotiate over the connected Unix socket `sock`, which the monitor closes in any case.

        `transcript` gets a JSON line for each message: `at` (CLOCK_MONOTONIC seconds), `way` (sent or
        received), `message`.

        :raise MonitorClosed: the peer closed before the session stood.
        :raise MonitorError: the peer does not speak QMP.
        :raise DeadlinePassed: no greeting in time.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            client = _Client(stack.enter_context(transcript.open("ab", buffering=0)))
            await _connect(client, sock, deadline)
            monitor = cls(client)
            watch = asyncio.create_task(monitor._watch())
            try:
                yield monitor
            finally:
                watch.cancel()
                # How the connection ended was already told to whoever was using it.
                with contextlib.suppress(EOFError, OSError, QMPError):
                    await client.disconnect()

    async def _watch(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        self._closed.set()

    @property
    def version(self) -> str:
        """QEMU's version and the package it is from, as it told when the session began; "" if it did not."""
        told = self._client.greeting.QMP.version if self._client.greeting else {}
        number = told.get("qemu")
        if not isinstance(number, Mapping):
            return ""
        digits = ".".join(str(number.get(name, 0)) for name in ("major", "minor", "micro"))
        return f"{digits} ({told['package']})" if told.get("package") else digits

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._client.runstate is not Runstate.RUNNING

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        deadline: Deadline | None = None,
    ) -> Any:
        """Do one command and return its answer (the JSON value of ``return``).

        `deadline` defaults to `REPLY_SECONDS` from now.

        :raise CommandFailed: QEMU answered with an error.
        :raise MonitorClosed: the connection ended before the answer.
        :raise DeadlinePassed: no answer in time; it may still be carried out.
        """
        deadline = deadline or Deadline(REPLY_SECONDS)
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), deadline.remaining())
        except ExecuteError as error:
            raise CommandFailed(command, arguments or {}, error.error_class, str(error)) from error
        except (ExecInterruptedError, StateError) as error:
            raise MonitorClosed(
                f"QMP {command}: the connection ended before an answer", command=command
            ) from error
        except QMPError as error:
            raise MonitorError(f"QMP {command}: {error}", command=command) from error
        except TimeoutError:
            raise DeadlinePassed(f"QMP {command}: no answer within {deadline.seconds:.1f} s") from None

    async def send_fd(self, fd: int, name: str) -> None:
        """Give QEMU a duplicate of `fd` (SCM_RIGHTS) under `name`, for a later command to use (``getfd``).

        The caller's `fd` stays open and the caller's. `name` must not begin with a digit.

        :raise CommandFailed: QEMU refused it.
        :raise MonitorClosed: the connection has ended.
        """
        # The descriptor travels ahead of the command that names it, so no other may come between.
        async with self._fd_lock:
            try:
                self._client.send_fd_scm(fd)
            except (StateError, OSError) as error:
                raise MonitorClosed("QMP getfd: the connection has ended", command="getfd") from error
            await self.execute("getfd", {"fdname": name})

    @contextlib.contextmanager
    def events(self, *names: str) -> Iterator[Events]:
        """Listen for events of these names (all, without names) from now until the scope ends.

        Enter the scope *before* doing what causes the event, so it cannot be missed.
        """
        with self._client.listener(names) as listener:
            yield Events(listener, self._closed, names)


async def _connect(client: QMPClient, sock: socket.socket, deadline: Deadline) -> None:
    try:
        await asyncio.wait_for(client.connect(sock), deadline.remaining())
    except TimeoutError:
        raise DeadlinePassed(f"QMP greeting: not within {deadline.seconds:.1f} s") from None
    except ConnectError as error:
        if isinstance(error.exc, (EOFError, OSError)):
            raise MonitorClosed("QMP: the peer closed before the session stood", command="connect") from error
        raise MonitorError(f"QMP: {error}", command="connect") from error
