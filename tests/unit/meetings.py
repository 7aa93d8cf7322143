"""Clients that meet a fault: an agent that may be treated as one likes, and what they then told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.guest.client import AgentClient, Facts
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.fault import Fault, FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.model.trace import What
from harness.run.meeting import After, Done, GuestEnd
from harness.run.nursery import Nursery
from harness.run.roster import Trace
from tests.unit.agents import HARNESS
from tests.unit.hangs import HANGS
from tests.unit.running import endpoint, group, plan, run

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.__main__ import main; main()"


class Agent:
    """One on a Unix socket, which tests may treat as they like."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        argv = [sys.executable, "-I", "-B", "-c", _START, str(HARNESS), "--unix", str(self.path)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def die(self) -> None:
        """Return once it is gone: until then the kernel takes connections for it, and resets them."""
        self.process.kill()
        self.process.wait()

    def facts(self) -> Facts:
        with AgentClient(connect(endpoint(self.path))) as client:
            return client.facts(deadline=Deadline(HANGS))


def told(facts: Facts) -> After:
    """What `Aftermath` makes of the agent's answer, but how many containers are left."""
    now = time.monotonic()
    return After(
        ended={label: GuestEnd(how=end.how, at=now - end.ago) for label, end in facts.ended.items()},
        removed={label: now - ago for label, ago in facts.removed.items()},
    )


class Fake:
    """A deed that does something of the test's. It is done `lasts` seconds later; `late`: begins but then."""

    def __init__(
        self,
        do: Callable[[], object] = lambda: None,
        undo: Callable[[], object] = lambda: None,
        after: Callable[[], After] = After,
        *,
        lasts: float = 0.0,
        late: bool = False,
    ) -> None:
        self.did: list[str] = []
        self.lasted = 0.0
        self._do, self._undo, self._after = do, undo, after
        self._lasts, self._late = lasts, late

    async def do(self, kill: Callable[[], None]) -> Done:
        self.did.append("do")
        began = at = time.monotonic()
        kill()
        self._do()
        if self._lasts:
            await asyncio.sleep(self._lasts)
            at = time.monotonic()
        self.lasted = at - began
        return Done(began=at if self._late else began, at=at)

    async def undo(self) -> After:
        self.did.append("undo")
        self._undo()
        return self._after()


def meeting(*doings: While, within: int = 10, kind: FaultKind = FaultKind.AGENT_KILL) -> Plan:
    """A client for each of `doings`; as on a proxied link, so that all of them connect once more."""
    groups = [group(doing.value, MeetFault(doing=doing, within=within)) for doing in doings]
    return msgspec.structs.replace(plan(*groups), fault=Fault(kind=kind), link=Link.SERIAL_PROXY)


def meet(what: Plan, path: Path, nursery: Nursery, deed: Fake) -> Trace:
    return run(what, Endpoint(link=Link.SERIAL_PROXY, path=str(path)), nursery, deed=deed)


def facts(trace: Trace, client: str) -> dict[str, object]:
    told: dict[str, object] = {}
    for event in trace:
        if event.client == client and event.what is What.FACT:
            told |= event.detail
    return told
