"""A pod's VM that only writes down what it is told, with a real agent; and faults that are done to it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from harness.model.fault import Fault, FaultKind, While
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.run.arrival import Arrival
from harness.run.faults import PodFault
from harness.run.meeting import After
from tests.unit.running import endpoint, group, plan

USUAL = Arrival()


class FakeVm:
    """Takes note; its agent is real, on a Unix socket in the place of each link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[Any] = []
        self._deleted = ""
        self.monitor = SimpleNamespace(execute=self.execute, events=self.events)
        self.kill, self.quit = self.noting("kill"), self.noting("quit")

    def noting(self, word: str) -> Any:
        async def note(*arguments: object) -> None:
            self.said.append(word)

        return note

    async def execute(self, command: str, arguments: object = None, *, deadline: object = None) -> None:
        self.said.append(command if arguments is None else (command, arguments))
        if command == "device_del" and isinstance(arguments, dict):
            self._deleted = arguments["id"]

    async def unplug_vsock(self, deadline: object) -> None:
        self.said.append("unplug")

    async def plug_vsock(self, lease: Any, deadline: object) -> None:
        self.said.append(("plug", lease))

    def allow_end(self, *, crash: bool = False) -> None:
        self.said.append("may crash" if crash else "may end")

    def endpoint(self, link: Link) -> Endpoint:
        return endpoint(self.path)

    def events(self, *names: str) -> Any:
        return contextlib.nullcontext(SimpleNamespace(get=self.deleted))

    async def deleted(self, deadline: object) -> dict[str, Any]:
        return {"event": "DEVICE_DELETED", "data": {"device": self._deleted}}


def wish(kind: FaultKind) -> Plan:
    made = plan(group("idle", MeetFault(doing=While.IDLE)))
    link = kind.links[0]
    return msgspec.structs.replace(made, fault=Fault(kind=kind), link=link)


def done(what: Plan, vm: FakeVm, proxy: Any = None, device: Any = None, arrival: Any = USUAL) -> After:
    """The fault is prepared, done and undone."""
    pod: Any = SimpleNamespace(machine=vm, proxy=proxy, device=device, arrival=arrival)

    async def all_of_it() -> After:
        async with PodFault.prepared(what, pod, 1.0) as fault:
            assert fault is not None
            before = asyncio.get_running_loop().time()
            when = await fault.do(lambda: vm.said.append("clients killed"))
            assert before <= when.began == when.at
            return await fault.undo()

    return asyncio.run(all_of_it())


def wanting(kind: FaultKind, link: Link) -> Plan:
    """A shim-kill of group idle, or another fault, on `link`."""
    fault = Fault(kind=kind, group="idle" if kind is FaultKind.SHIM_KILL else "")
    return msgspec.structs.replace(wish(kind), fault=fault, link=link)
