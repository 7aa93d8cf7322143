"""Many clients at once, each a process of its own, through one phase after the other.

A program that forks them all before anything is measured: starting a Python costs seconds on an emulated
host. `run` starts it; wish and outcome are JSON.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from harness.guest.client import AgentClient
from harness.host.speed import slowness
from harness.link.connect import KERNEL_TIMEOUT, connect
from harness.model.deadline import Deadline
from harness.model.link import Endpoint
from harness.run.client import FRAMES

PHASES = ("connect", "ping", "send", "receive")
_DEFAULT_FRAMES = (256 * 1024, 1 << 20)
_PATIENCE = 120.0
"""Seconds for one client's phase, of a plain machine."""


class Wish(msgspec.Struct, frozen=True):
    """`clients` for each endpoint: `pings` round trips, then `size` bytes each way, all at the same time."""

    endpoints: tuple[Endpoint, ...]
    clients: int
    pings: int
    size: int


class Step(msgspec.Struct, frozen=True):
    """What one client did in a phase: from when to when (monotonic), each round trip's seconds, its error."""

    begun: float
    ended: float
    trips: tuple[float, ...] = ()
    error: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """For each phase the step of each client; a client that failed has none in the phases after."""

    phases: dict[str, list[Step]]

    @property
    def intact(self) -> int:
        """Clients that did all phases, each byte compared."""
        return sum(not step.error for step in self.phases[PHASES[-1]])

    @property
    def errors(self) -> list[str]:
        """What went wrong, each once."""
        return sorted({step.error for steps in self.phases.values() for step in steps if step.error})

    def span(self, phase: str) -> float:
        """Seconds from the first client's begin to the last one's end."""
        steps = self.phases[phase]
        return max(step.ended for step in steps) - min(step.begun for step in steps)

    @property
    def trips(self) -> list[float]:
        """Seconds of all round trips, sorted."""
        return sorted(trip for step in self.phases["ping"] for trip in step.trips)


def run(wish: Wish) -> Outcome:
    """Let all clients of `wish` work, in processes of their own, which have ended then."""
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        input=msgspec.json.encode(wish),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Outcome)


def main() -> None:
    """Read a wish, fork, lead all clients through the phases, write the outcome."""
    wish = msgspec.json.decode(sys.stdin.buffer.read(), type=Wish)
    slow = slowness()
    pipes = [
        _forked(wish, endpoint, number, slow)
        for number, endpoint in enumerate(e for e in wish.endpoints for _ in range(wish.clients))
    ]
    phases: dict[str, list[Step]] = {}
    for phase in PHASES:
        for pipe in pipes:
            pipe.send(phase.encode())
        steps = [msgspec.json.decode(pipe.recv(1 << 20), type=Step) for pipe in pipes]
        phases[phase] = steps
        pipes = [pipe for pipe, step in zip(pipes, steps, strict=True) if not step.error]
        if not pipes:
            break
    for phase in PHASES:
        phases.setdefault(phase, [])
    sys.stdout.buffer.write(msgspec.json.encode(Outcome(phases)))


def _forked(wish: Wish, endpoint: Endpoint, number: int, slow: float) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        _Client(wish, endpoint, number, slow).follow(theirs)
    finally:
        os._exit(0)


class _Client:
    """One client process."""

    def __init__(self, wish: Wish, endpoint: Endpoint, number: int, slow: float) -> None:
        self._wish = wish
        self._endpoint = endpoint
        self._number = number
        self._slow = slow
        self._agent: AgentClient | None = None

    def follow(self, pipe: socket.socket) -> None:
        """Do each phase when told; end at the pipe's end, or after an error."""
        while phase := pipe.recv(100).decode():
            step = self._timed(getattr(self, phase))
            pipe.send(msgspec.json.encode(step))
            if step.error:
                return

    def _timed(self, do: Callable[[], tuple[float, ...]]) -> Step:
        begun = time.monotonic()
        try:
            trips = do()
        except Exception as error:  # noqa: BLE001 - told to who asked
            return Step(begun, time.monotonic(), error=f"{type(error).__name__}: {error}"[:300])
        return Step(begun, time.monotonic(), trips)

    def connect(self) -> tuple[float, ...]:
        chunk, window = FRAMES.get(self._endpoint.link, _DEFAULT_FRAMES)
        sock = connect(self._endpoint, vsock_timeout=KERNEL_TIMEOUT * self._slow)
        self._agent = AgentClient(sock, chunk=chunk, window=window)
        return ()

    def ping(self) -> tuple[float, ...]:
        assert self._agent is not None
        trips = []
        for _ in range(self._wish.pings):
            begun = time.monotonic()
            self._agent.echo(b"ping", deadline=self._soon())
            trips.append(time.monotonic() - begun)
        return tuple(trips)

    def send(self) -> tuple[float, ...]:
        assert self._agent is not None
        self._agent.send(self._number, self._wish.size, deadline=self._soon())
        return ()

    def receive(self) -> tuple[float, ...]:
        assert self._agent is not None
        self._agent.receive(self._number, self._wish.size, deadline=self._soon())
        return ()

    def _soon(self) -> Deadline:
        return Deadline(_PATIENCE * self._slow)


if __name__ == "__main__":
    main()
