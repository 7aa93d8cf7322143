"""What a client process does for each step of a workload, and what it compares."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from harness.agent.seeded import stream
from harness.guest.client import AgentClient, AgentError, Completed, Container
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed
from harness.model.steps import (
    AskAndLeave,
    Connect,
    Containers,
    Copy,
    Echo,
    Exchange,
    Finish,
    Flood,
    Leave,
    MeetFault,
    Messages,
    OpenDevice,
    Ping,
    Receive,
    Run,
    Send,
    Shutdown,
    Start,
    Step,
    StopReading,
    WaitFor,
    Way,
)
from harness.model.trips import kept, quantile
from harness.run.control import Begin
from harness.run.raw import Detail, Raw, Wrong

Value = str | int | float | bool | None

ECHO_PIECE = 1 << 20
"""The most bytes echoed by one call; more are echoed piece by piece."""

SHOWN = 60
"""The most characters of an output that an event quotes."""


def seed_for(scenario: str, client: str, step: int) -> int:
    """The seed of a step's data, 48 bits: the same in each run, another for each scenario, client, step."""
    return int.from_bytes(hashlib.sha256(f"{scenario}\0{client}\0{step}".encode()).digest()[:6], "big")


class Steps:
    """Does the steps of one client, over one connection; those of sockets by `raw`.

    Errors of `AgentClient` go through, for the caller to name.
    """

    def __init__(self, agent: AgentClient, raw: Raw, begin: Begin) -> None:
        self._agent = agent
        self._raw = raw
        self._scenario, self._client, self._slowness = begin.scenario, begin.client, begin.slowness
        self._containers: dict[str, Container] = {}
        self.trips: tuple[int, ...] = ()
        """Of the last `ping` step, as in `Event.trips`."""

    def do(self, index: int, step: Step, fact: Callable[[Detail], None], wait: Callable[[], None]) -> Detail:
        """Do `step`; return what was compared.

        :param fact: takes a fact to expect by name.
        :param wait: returns when the coordinator says that what `wait-for` names is there.
        :raise Wrong: when something else came than should have.
        """
        seed = seed_for(self._scenario, self._client, index)
        match step:
            case Echo():
                return self._echo(seed, step)
            case Ping():
                return self._pings(step.times)
            case Send():
                self._agent.send(seed, step.bytes)
                return {"bytes": step.bytes, "seed": seed}
            case Receive():
                self._agent.receive(seed, step.bytes)
                return {"bytes": step.bytes, "seed": seed}
            case StopReading():
                self._agent.receive(seed, step.bytes, stop_after=1)
                return {"asked": step.bytes, "seed": seed}
            case OpenDevice():
                opened = self._agent.open_device()
                fact({"second-open": opened})
                return {"second-open": opened}
            case Containers():
                return self._count(step)
            case AskAndLeave():
                self._agent.ask_later(_data(seed, step.bytes))
                return {}
            case WaitFor():
                wait()
                return {}
            case (
                Leave() | Flood() | MeetFault() | Exchange() | Copy()
            ):  # done by the client itself, or a tool
                return {}
            case Connect() | Messages() | Shutdown():
                return self._raw.do(seed, step)
            case Run() | Start() | Finish():
                return self._container(step)

    def ping(self) -> None:
        """The smallest round trip: an echo of eight bytes."""
        self._agent.echo(b"ping\r\n\0\xff")

    def flood(self, index: int, step: Flood, moved: Callable[[int], None]) -> None:
        """Move and compare all of `step`, as fast as it goes. `moved` is called whenever some went."""
        seed = seed_for(self._scenario, self._client, index)
        if step.way is Way.RECEIVE:
            self._agent.receive(seed, step.bytes, on_progress=moved)
            return
        if step.way is Way.SEND:
            self._agent.send(seed, step.bytes, on_progress=moved)
            return
        for piece in stream(seed, step.bytes, ECHO_PIECE):
            self._agent.echo(piece, on_progress=moved)

    def _pings(self, times: int) -> Detail:
        """Round trips, one after the other, each timed."""
        trips = []
        for _ in range(times):
            start = time.monotonic_ns()
            self.ping()
            trips.append((time.monotonic_ns() - start) // 1000)
        self.trips = kept(trips)
        return {"times": times, "p50 ms": quantile(trips, 0.5) / 1000, "p99 ms": quantile(trips, 0.99) / 1000}

    def _echo(self, seed: int, step: Echo) -> Detail:
        digest = hashlib.sha256()
        for again in range(step.times):
            for piece in stream(seed + again, step.bytes, ECHO_PIECE):
                self._agent.echo(piece)
                digest.update(piece)
        return {"bytes": step.bytes * step.times, "sha256": digest.hexdigest()[:16], "seed": seed}

    def _count(self, step: Containers) -> Detail:
        seen = -1

        def right() -> bool:
            nonlocal seen
            seen = self._agent.facts().containers
            return seen == step.running

        try:
            patience = Deadline(step.within * self._slowness)
            until(right, patience, "containers", every=0.05 * self._slowness)
        except DeadlinePassed as passed:
            raise Wrong(f"{step.running} containers running", f"{seen}") from passed
        return {"running": step.running}

    def _container(self, step: Run | Start | Finish) -> Detail:
        try:
            if isinstance(step, Finish):
                return _compare(step, self._finish(self._containers.pop(step.name), step.stdin))
            container = self._agent.start(step.argv)
        except AgentError as error:
            wanted = step.argv[0] if not isinstance(step, Finish) else step.name
            raise Wrong(f"container {_shown(wanted)}", error.summary) from error
        if isinstance(step, Start):
            self._containers[step.name] = container
            return {"name": step.name}
        return _compare(step, self._finish(container, step.stdin))

    def _finish(self, container: Container, stdin: str) -> Completed:
        container.write_stdin(stdin.encode())
        container.close_stdin()
        return container.wait()


def _data(seed: int, total: int) -> bytes:
    return b"".join(stream(seed, total, ECHO_PIECE))


def _compare(step: Run | Finish, end: Completed) -> Detail:
    """Hold each that is given against what came."""
    seen: dict[str, tuple[str | int | None, str | int | None]] = {
        "signal": (step.signal, end.signal),
        "exit": (step.exit, end.code),
        "stdout": (step.stdout, end.stdout.decode(errors="backslashreplace")),
        "stderr": (step.stderr, end.stderr.decode(errors="backslashreplace")),
    }
    detail: Detail = {}
    for name, (want, got) in seen.items():
        if want is None:
            continue
        if want != got:
            raise Wrong(f"{name} {_shown(want)}", f"{_shown(got)}; stderr {_shown(seen['stderr'][1])}")
        detail[name] = got if isinstance(got, int) else _shown(got)
    return detail


def _shown(value: str | int | None) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
