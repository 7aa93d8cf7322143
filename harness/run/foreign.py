"""Clients that are other people's programs (socat, nbdcopy, ssh), and what becomes of many at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.host.process import spawn, stop
from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline, until
from harness.run.patience import Patience

_ENDS_WITHIN = 5.0
"""Seconds from SIGTERM to SIGKILL."""


class Talk(msgspec.Struct, frozen=True):
    """One round trip: what a client says, and the bytes that it is to hear then."""

    say: bytes
    hear: bytes


class End(StrEnum):
    """What became of a client's last round trip; the words of docs/scenarios.md."""

    SERVED = "served"
    WAITING = "waiting"  # nothing yet, or not all
    REFUSED = "refused"  # the program ended before its first answer
    LOST = "lost"  # it ended later
    GARBLED = "garbled"  # it heard something else


class Foreign:
    """A running program, from `started`, that says what it is told and hears by its standard output.

    It is read no further than asked for, so one that writes more stands still in the middle of that.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._log = log
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._wanted = self._heard = b""
        self._end = End.WAITING
        self._was_served = False
        os.set_blocking(self._stdout.fileno(), False)

    def ask(self, talk: Talk) -> None:
        """Begin a round trip; `look` tells how it goes on."""
        self._wanted, self._heard, self._end = talk.hear, b"", End.WAITING
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `look` will see
            self._stdin.write(talk.say)
            self._stdin.flush()

    def look(self) -> End:
        """What has become of the last round trip by now; waits for nothing."""
        while self._end is End.WAITING:
            try:
                data = os.read(self._stdout.fileno(), len(self._wanted) - len(self._heard))
            except BlockingIOError:
                break
            if not data:
                self._end = End.LOST if self._was_served else End.REFUSED
                break
            self._heard += data
            if not self._wanted.startswith(self._heard):
                self._end = End.GARBLED
            elif self._heard == self._wanted:
                self._end, self._was_served = End.SERVED, True
        return self._end

    @property
    def complaint(self) -> str:
        """What it wrote to its standard error so far."""
        return self._log.read_text(errors="replace").strip()

    def leave(self) -> None:
        """Let the program read the end of its input, by which it is to end; returns when it has.

        :raise InfrastructureError: it can't even be killed.
        """
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        stop(self._process, lambda: None, terminate_after=_ENDS_WITHIN, kill_after=_ENDS_WITHIN)
        self._stdout.close()


@contextlib.contextmanager
def started(argv: Sequence[str | Path], folder: RunFolder, log: Path) -> Iterator[Foreign]:
    """A program of this host; it ends with the `with`. `log` gets what it complains of.

    :raise InfrastructureError: it isn't installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = spawn(argv, folder=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    client = Foreign(process, log)
    try:
        yield client
    finally:
        client.leave()


Dial = Callable[[], AbstractContextManager[Foreign]]


@contextlib.contextmanager
def crowd(dial: Dial, talks: Sequence[Talk], deadline: Deadline) -> Iterator[list[Foreign]]:
    """As many clients as `talks`, each with its own: the first is served, and holds; then the others come,
    all at once.

    A first one that is refused is dialled again until `deadline`: nothing tells when a program listens.
    """
    with contextlib.ExitStack() as stack:

        def served() -> Foreign | None:
            attempt = stack.enter_context(contextlib.ExitStack())
            client = attempt.enter_context(dial())
            client.ask(talks[0])
            until(lambda: client.look() is not End.WAITING, deadline, "the first client's answer")
            if client.look() is not End.REFUSED:
                return client
            attempt.close()
            return None

        clients = [until(served, deadline, "a first client that is not refused")]
        for talk in talks[1:]:
            clients.append(stack.enter_context(dial()))
            clients[-1].ask(talk)
        yield clients


def ends(clients: Sequence[Foreign], again: Talk | None, slowness: float, deadline: Deadline) -> Counter[End]:
    """What becomes of a `crowd`, counted: who has seen nothing while the first one made rounds is waiting.

    See `harness.run.patience`, by whose rules that is told.

    :param again: what the first one says and hears in a round; None if it can make none.
    """
    first, *others = clients
    patience = Patience(slowness)
    pending = [client for client in others if client.look() is End.WAITING]

    def settled() -> bool:
        nonlocal pending
        still = [client for client in pending if client.look() is End.WAITING]
        if len(still) < len(pending):
            pending = still
            patience.news()
        if first.look() is End.SERVED:
            patience.back("first")
            if again and patience.begin_round({"first"}):
                first.ask(again)
        rounds = again is not None and first.look() in (End.SERVED, End.WAITING)
        return not pending or patience.over(rounds=rounds, blind=not rounds, quick=False)

    until(settled, deadline, "what becomes of the clients")
    until(lambda: first.look() is not End.WAITING, deadline, "the first client's last round")
    return Counter(client.look() for client in clients)


def said(found: Counter[End]) -> str:
    """The counts in words, `served` first: "3 served, 2 refused"."""
    return ", ".join(f"{found[end]} {end}" for end in End if found[end])
