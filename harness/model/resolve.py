"""Turns written groups into a plan's groups for one link: values per link chosen, sizes in bytes."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from harness.model import steps, written
from harness.model.document import Node, Place, Problems
from harness.model.fault import While
from harness.model.halves import Answer, Deaf
from harness.model.link import Link
from harness.model.plan import Boot, Connection, GroupPlan, Initiated
from harness.model.program import ProgramName, ProgramPlan, ToolPlan
from harness.model.size import MAX_GIB, parse_size, size_words
from harness.model.values import Where
from harness.model.writtentools import Program

T = TypeVar("T")

MAX_BYTES = {"ask-and-leave": 1 << 20, "messages": 1 << 15}
"""Bytes at most where it is not `MAX_ANY`: a late answer is one frame (`harness.agent.wire.MAX_PAYLOAD`);
four messages under way fit into the credit of a vsock connection (256 KiB), with all that the kernel adds."""

SOCKET_STEPS = ("connect", "messages", "shutdown")
"""Steps that need more connections than the client's own."""

CIDS = (steps.Target.NO_VM, steps.Target.NOBODY)
"""Where `connect` goes to another CID than the guest's or the host's. On hybrid-vsock only the guest can dial
one, that nobody holds: the host's end is a Unix socket, and a CID is nothing of the kernel's."""

MAX_ANY = MAX_GIB << 30

STEP_TYPES: dict[str, type[Any]] = {
    kind.op: kind
    for kind in (
        steps.Echo,
        steps.Ping,
        steps.Send,
        steps.Receive,
        steps.Run,
        steps.Start,
        steps.Finish,
        steps.OpenDevice,
        steps.AskAndLeave,
        steps.StopReading,
        steps.Flood,
        steps.WaitFor,
        steps.Containers,
        steps.MeetFault,
        steps.Leave,
        steps.Connect,
        steps.Messages,
        steps.Shutdown,
        steps.Exchange,
        steps.Copy,
    )
}
"""The type of each step by its word."""


class WrittenGroup(NamedTuple):
    """A group and where its parts stand in the file."""

    name: str
    group: written.Group
    count_path: tuple[Place, ...]
    workload_path: tuple[Place, ...]

    def at(self, key: str) -> tuple[Place, ...]:
        """The path of one of its other keys."""
        return (*self.workload_path[:-1], key)


class Resolver:
    """Chooses the values of one link, and notes in `problems` those that it has none for."""

    def __init__(self, root: Node, link: Link, problems: Problems) -> None:
        self._root = root
        self._link = link
        self._problems = problems

    def group(self, source: WrittenGroup) -> GroupPlan:
        """`source` for this link; where a value is missing, something that fits stands in its place."""
        group = source.group
        count = self._value(group.count, source.count_path, 1)
        initiated = self._initiated(group.initiated, source.at("initiated"), count)
        workload = enumerate(group.workload)
        return GroupPlan(
            name=source.name,
            count=count,
            workload=tuple(
                self._step(step, (*source.workload_path, index), initiated) for index, step in workload
            ),
            after=group.after or None,
            connection=self._value(group.connection, source.at("connection"), Connection.OWN),
            initiated=initiated,
            elsewhere=group.elsewhere,
            tool=None if group.tool is UNSET else ToolPlan(name=group.tool.name, to=group.tool.to),
        )

    def boot(self, value: Boot | dict[Where, Boot]) -> Boot:
        """How the VM comes to be on this link."""
        return self._value(value, ("boot",), Boot.CLONE)

    def program(self, name: ProgramName, text: Program) -> ProgramPlan:
        """One of `programs` on this link."""
        argv = () if text.run is UNSET else self._value(text.run, ("programs", name.value, "run"), ())
        return ProgramPlan(name=name, run=argv, port=None if text.port is UNSET else text.port)

    def _initiated(
        self, value: Initiated | dict[Where, Initiated], path: tuple[Place, ...], count: int
    ) -> Initiated:
        """`both` is the host where the guest can't connect: what is the same on each link is written once."""
        initiated = self._value(value, path, Initiated.HOST)
        if initiated is Initiated.GUEST and self._link.is_serial_port:
            what = (
                f"the guest cannot connect over link {self._link.value!r}: a serial port knows no connections"
            )
            self._problems.add(self._root.at(*path).mark, what)
        if initiated is Initiated.BOTH and self._link.is_serial_port:
            return Initiated.HOST
        if initiated is Initiated.BOTH and count < 2:
            what = f"'both' needs two clients at least: {count} on link {self._link.value!r}"
            self._problems.add(self._root.at(*path).mark, what)
        return initiated

    def _step(self, step: written.Step, path: tuple[Place, ...], initiated: Initiated) -> steps.Step:
        op = word_of(step)
        text = getattr(step, op.replace("-", "_"))
        given = {name: value for name, value in asdict(text).items() if value is not UNSET}
        if op in SOCKET_STEPS and self._link.is_serial_port:
            what = f"{op!r} cannot be done over link {self._link.value!r}: a serial port has no sockets"
            self._problems.add(self._root.key_mark(*path, op), what)
        elif given.get("to") in CIDS and not self._dials(given["to"], initiated):
            what = "a CID is dialled on link 'vsock', and 'nobody' by the guest on 'hybrid-vsock'"
            self._problems.add(self._root.at(*path, op, "to").mark, what)
        if "fails" in given:
            given |= _fails(self._value(given["fails"], (*path, op, "fails"), ()))
        if "times" in given:
            given["times"] = self._value(given["times"], (*path, op, "times"), 1)
        if "doing" in given:
            given["doing"] = self._value(given["doing"], (*path, op, "while"), While.IDLE)
        if "answer" in given:
            given["answer"] = self._value(given["answer"], (*path, op, "answer"), Answer.WHOLE)
        if "deaf" in given:
            given["deaf"] = self._value(given["deaf"], (*path, op, "deaf"), Deaf.REFUSED)
        if "running" in given:
            given["running"] = self._value(given["running"], (*path, op, "running"), 0)
        if "bytes" in given:
            given["bytes"] = self._size(given["bytes"], (*path, op, "bytes"), MAX_BYTES.get(op, MAX_ANY))
        if isinstance(text, written.Run | written.Finish) and isinstance(text.signal, UnsetType):
            given.setdefault("exit", 0)
        made: steps.Step = STEP_TYPES[op](**given)
        return made

    def _dials(self, to: steps.Target, initiated: Initiated) -> bool:
        """Whether this link has such a CID for who opens the connection; see `CIDS`."""
        by_guest = to is steps.Target.NOBODY and initiated is Initiated.GUEST
        return self._link is Link.VSOCK or (self._link is Link.HYBRID_VSOCK and by_guest)

    def _size(self, value: Any, path: tuple[Place, ...], most: int) -> int:
        size = parse_size(self._value(value, path, 1))
        if not 1 <= size <= most:
            allowed = f"1 to {most} ({size_words(most)})"
            self._problems.add(self._root.at(*path).mark, f"bytes must be {allowed}, not {size}")
        return size

    def _value(self, value: T | dict[Where, T], path: tuple[Place, ...], otherwise: T) -> T:
        if not isinstance(value, dict):
            return value
        for key in (Where(self._link.value), Where.DEFAULT):
            if key in value:
                return value[key]
        what = f"{path[-1]} has neither a value for link {self._link.value!r} nor a default"
        self._problems.add(self._root.key_mark(*path), what)
        return otherwise


def _fails(given: written.Errnos | written.FailsByKernel) -> dict[str, Any]:
    """`fails` and `newer` of a `Connect`."""
    if isinstance(given, written.FailsByKernel):
        since = steps.FailsSince(linux=given.linux, fails=_several(given.since))
        return {"fails": _several(given.before), "newer": since}
    return {"fails": _several(given)}


def _several(names: written.Errnos) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def word_of(step: written.Step) -> str:
    """The one key of `step`."""
    return next(name.replace("_", "-") for name in step.__struct_fields__ if getattr(step, name) is not UNSET)
