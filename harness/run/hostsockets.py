"""This host's vsock sockets as they were when an item's clients first met trouble: evidence, if it fails.

Once the clients have ended, their sockets have, too. Nothing is told of the guest's, which takes a module of
its kernel's (vsock_diag) and a program (ss): a pod has neither.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from harness.model.link import Link
from harness.model.trace import BY_SIGKILL, Event, What

NAME = "vsock-sockets.txt"
"""The file in an item's folder."""

ARGV = ("ss", "-anp", "--vsock")
"""All of them, listening ones too, with their queues and processes; from the package iproute2."""

SECONDS = 5.0
"""It takes some ms, in a lab 0.1 s."""

KEPT_FOR = 1.0
"""Seconds for which whoever is killed next is kept for it, once in an item; no fault is being done then."""

_TROUBLE = (What.REFUSED, What.WRONG, What.STALE, What.LOST)


class Look(Protocol):
    """A program that was started to look at them."""

    def wait(self, seconds: float) -> bool:
        """Until it is done, `seconds` at most. Whether it is."""

    def text(self) -> str:
        """What it has printed, or in one line why there is nothing of it. Waits `SECONDS` at most."""

    def close(self) -> None:
        """End it, if it still runs."""


Program = Callable[[Sequence[str]], Look]


class HostSockets:
    """Looks when told of an event that may be trouble, the first time only.

    An item that passes has such events, too, and what comes after them is timed: so nobody waits for a look
    but where a client is killed next, whose sockets are gone then.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._holding: set[str] = set()
        self._look: Look | None = None
        self._when = ""
        self._waited = False

    def saw(self, event: Event) -> None:
        """A client's next event; who is ended holds, or is in the midst of something and not yet killed.

        A client's death by SIGKILL is a fault's own doing, and what it brings about is being timed.
        """
        if event.detail.get("process") == BY_SIGKILL:
            return
        if event.what is What.HOLDING:
            self._holding.add(event.client)
        midway = event.what is What.ENDED and event.client not in self._holding
        if not midway and event.what not in _TROUBLE:
            return
        look = self._begun(f"{event.client} {event.what}, at {event.at:.6f} of the trace")
        if not self._waited and (midway or _is_mute(event)):
            self._waited = True
            look.wait(KEPT_FOR)

    def write(self, folder: Path) -> None:
        """What was seen, or is to be seen now, where no client had trouble."""
        look = self._begun("all clients had ended")
        lines = [f"$ {' '.join(ARGV)}  # {self._when}", *look.text().splitlines()]
        (folder / NAME).write_text("".join(f"{line.rstrip()}\n" for line in lines))

    def close(self) -> None:
        """Nothing is looked at any more."""
        if self._look:
            self._look.close()

    def _begun(self, when: str) -> Look:
        """The one look, which begins now if it has not yet."""
        if self._look is None:
            self._look, self._when = self._program(ARGV), when
        return self._look


def _is_mute(event: Event) -> bool:
    """Whether others tell of a client which is there that it has lost its connection."""
    return event.what is What.LOST and not event.detail.keys() & {"errno", "process"}


class Started:
    """`argv`, started. It prints into memory: a pipe holds 64 KiB, and nobody reads before it is done."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._name = argv[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._printed = -1
        self._trouble = ""
        try:
            self._printed = os.memfd_create(NAME)
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=self._printed, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self._trouble = f"{self._name} can't be run here: {error.strerror}"

    def wait(self, seconds: float) -> bool:
        """As `Look` has it."""
        try:
            if self._process:
                self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def text(self, seconds: float = SECONDS) -> str:
        """As `Look` has it."""
        if self._process is None:
            return self._trouble
        if not self.wait(seconds):
            return f"{self._name} was not done after {seconds:g} s"
        printed = os.pread(self._printed, os.fstat(self._printed).st_size, 0).decode(errors="replace")
        code = self._process.returncode
        return printed + (f"{self._name} exited with {code}" if code else "")

    def close(self) -> None:
        """As `Look` has it."""
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._printed >= 0:
            os.close(self._printed)
            self._printed = -1


@contextlib.contextmanager
def kept(folder: Path, link: Link, program: Program = Started) -> Iterator[Callable[[Event], None]]:
    """Around an item on `link`: gives what is to be told of its events, and writes `NAME` if it fails.

    Only on `vsock`: nobody else has such sockets here.
    """
    if link is not Link.VSOCK:
        yield lambda event: None
        return
    sockets = HostSockets(program)
    try:
        yield sockets.saw
    except Exception as error:
        try:
            sockets.write(folder)
        except OSError as trouble:
            error.add_note(f"{folder / NAME} can't be written: {trouble.strerror}")
        raise
    finally:
        sockets.close()
