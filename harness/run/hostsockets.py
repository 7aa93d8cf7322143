"""This host's vsock sockets as they were when an item's clients first met trouble: evidence, if it fails.

Once the clients have ended, their sockets have, too. Nothing is told of the guest's, which takes a module of
its kernel's (vsock_diag) and a program (ss): a pod has neither.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.model.link import Link
from harness.model.trace import BY_SIGKILL, Event, What

NAME = "vsock-sockets.txt"
"""The file in an item's folder."""

ARGV = ("ss", "-anp", "--vsock")
"""All of them, listening ones too, with their queues and processes; from the package iproute2."""

SECONDS = 5.0
"""It takes some ms, in a lab 0.1 s."""

Program = Callable[[Sequence[str]], str]

_TROUBLE = (What.REFUSED, What.WRONG, What.STALE, What.LOST)


class HostSockets:
    """Looks when told of an event that may be trouble, the first time only."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._holding: set[str] = set()
        self._text = ""

    def saw(self, event: Event) -> None:
        """A client's next event; who is ended holds, or is in the midst of something and not yet killed.

        A client's death by SIGKILL is a fault's own doing, and what it brings about is being timed.
        """
        if event.detail.get("process") == BY_SIGKILL:
            return
        if event.what is What.HOLDING:
            self._holding.add(event.client)
        midway = event.what is What.ENDED and event.client not in self._holding
        if not self._text and (midway or event.what in _TROUBLE):
            self._look(f"{event.client} {event.what}, at {event.at:.6f} of the trace")

    def write(self, folder: Path) -> None:
        """What was seen, or is to be seen now, where no client had trouble."""
        if not self._text:
            self._look("all clients had ended")
        (folder / NAME).write_text(self._text)

    def _look(self, when: str) -> None:
        lines = [f"$ {' '.join(ARGV)}  # {when}", *self._program(ARGV).splitlines()]
        self._text = "".join(f"{line.rstrip()}\n" for line in lines)


def said(argv: Sequence[str], seconds: float = SECONDS) -> str:
    """What that program prints, or in one line why there is nothing of it. Waits `seconds` at most."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} was not done after {seconds:g} s"
    except OSError as error:
        return f"{argv[0]} can't be run here: {error.strerror}"
    return done.stdout + (f"{argv[0]} exited with {done.returncode}" if done.returncode else "")


@contextlib.contextmanager
def kept(folder: Path, link: Link, program: Program = said) -> Iterator[Callable[[Event], None]]:
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
