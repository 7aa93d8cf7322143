"""What a scenario file must keep to beyond types: names that exist, an order that can be gone through."""

from __future__ import annotations

from msgspec import UNSET

from harness.model import written
from harness.model.document import Node, Place, Problems
from harness.model.expect import Word
from harness.model.plan import Schedule
from harness.model.resolve import WrittenGroup, word_of
from harness.model.steps import Moment
from harness.model.values import Where

LAST = ("leave", "ask-and-leave", "stop-reading", "flood")
LEAVES = ("leave", "ask-and-leave")
_ANYWAY = (Moment.HOLDING, Moment.PARKED)
"""Moments that come for those who stay, too."""
RESERVED = (*Word, "facts", "noticed", "slowdown", *Where)


def groups_of(file: written.File, root: Node, problems: Problems) -> list[WrittenGroup]:
    """The groups of `file` in its order. Notes where `clients` and `workload` do not fit together."""
    if isinstance(file.clients, int):
        if file.workload is UNSET:
            problems.add(root.keys["clients"], "a number of clients needs 'workload' beside it")
            return []
        group = written.Group(count=file.clients, workload=file.workload)
        return [WrittenGroup("client", group, ("clients",), ("workload",))]
    if file.workload is not UNSET:
        problems.add(root.keys["workload"], "each group has its own 'workload'; this one is nobody's")
    for name in file.clients:
        if name in RESERVED:
            problems.add(
                root.at("clients").keys[name], f"a group cannot be called {name!r}: the word is taken"
            )
    return [
        WrittenGroup(name, group, ("clients", name, "count"), ("clients", name, "workload"))
        for name, group in file.clients.items()
    ]


class Rules:
    """Checks one file, whose types are right already."""

    def __init__(
        self, file: written.File, groups: list[WrittenGroup], root: Node, problems: Problems
    ) -> None:
        self._file = file
        self._groups = {source.name: source for source in groups}
        self._root = root
        self._problems = problems

    def check(self) -> None:
        """Note all that is wrong."""
        self._links()
        self._per_link(self._root)
        for source in self._groups.values():
            self._after(source)
            self._steps(source)
        if not self._cycle():
            for source in self._groups.values():
                self._leaving(source)

    def _links(self) -> None:
        seen = set()
        for index, link in enumerate(self._file.links):
            if link in seen:
                self._problems.add(self._root.at("links", index).mark, f"link {link.value!r} a second time")
            seen.add(link)

    def _per_link(self, node: Node) -> None:
        """A value per link for a link that is not run is never looked at: say so."""
        if isinstance(node.value, list):
            for item in node.value:
                self._per_link(item)
        if not isinstance(node.value, dict):
            return
        per_link = node is not self._root and all(key in tuple(Where) for key in node.value)
        for key, value in node.value.items():
            if per_link and key != Where.DEFAULT and key not in self._file.links:
                what = f"link {key!r} is not in 'links'"
                self._problems.add(node.keys[key], what, [link.value for link in self._file.links])
            if node is not self._root or key != "expect":
                self._per_link(value)

    def _after(self, source: WrittenGroup) -> None:
        if source.group.after:
            self._names(source, source.group.after, source.at("after"))

    def _names(self, source: WrittenGroup, other: str, path: tuple[Place, ...]) -> None:
        """`other`, named by `source` as something to wait for, is another group that can come before it."""
        mark = self._root.at(*path).mark
        others = [name for name in self._groups if name != source.name]
        order = list(self._groups)
        if other == source.name:
            self._problems.add(mark, f"group {other!r} would wait for itself", others)
        elif other not in self._groups:
            self._problems.unknown(mark, "group", other, others)
        elif self._file.schedule is Schedule.SEQUENTIAL and order.index(other) > order.index(source.name):
            what = f"group {other!r} comes later in a sequential schedule, so it would be waited for for ever"
            self._problems.add(mark, what)

    def _steps(self, source: WrittenGroup) -> None:
        started: set[str] = set()
        finished: set[str] = set()
        for index, step in enumerate(source.group.workload):
            op, path = word_of(step), (*source.workload_path, index)
            if op in LAST and index + 1 < len(source.group.workload):
                self._problems.add(self._root.key_mark(*path, op), f"{op!r} must be the last step")
            if isinstance(step.start, written.Start):
                if step.start.name in started:
                    what = f"container {step.start.name!r} was started already"
                    self._problems.add(self._root.at(*path, op, "name").mark, what)
                started.add(step.start.name)
            if isinstance(step.finish, written.Finish):
                self._finish(step.finish, (*path, op), started, finished)
                finished.add(step.finish.name)
            self._outcome(step, (*path, op))
            self._wait_for(source, step, (*path, op))

    def _finish(
        self, step: written.Finish, path: tuple[Place, ...], started: set[str], finished: set[str]
    ) -> None:
        mark = self._root.at(*path, "name").mark
        if step.name in finished:
            self._problems.add(mark, f"container {step.name!r} was finished already")
        elif not started:
            self._problems.add(mark, f"container {step.name!r} was not started: no 'start' above")
        elif step.name not in started:
            self._problems.unknown(mark, "container", step.name, sorted(started))

    def _outcome(self, step: written.Step, path: tuple[Place, ...]) -> None:
        outcome = step.run if isinstance(step.run, written.Run) else step.finish
        if not isinstance(outcome, written.Run | written.Finish):
            return
        if outcome.exit is not UNSET and outcome.signal is not UNSET:
            what = "a container ends by 'exit' or by 'signal', not both"
            self._problems.add(self._root.key_mark(*path, "signal"), what)

    def _wait_for(self, source: WrittenGroup, step: written.Step, path: tuple[Place, ...]) -> None:
        if not isinstance(step.wait_for, written.WaitFor):
            return
        other, event = step.wait_for.group, step.wait_for.event
        self._names(source, other, (*path, "group"))
        if event is Moment.PARKED and self._parks(other) and self._groups[other].group.after == source.name:
            mark = self._root.at(*path, "group").mark
            self._problems.add(mark, f"group {other!r} only begins after {source.name!r}, so never in time")

    def _leaving(self, source: WrittenGroup) -> None:
        """Who waits for a group to leave waits for one that does."""
        if self._file.schedule is Schedule.SEQUENTIAL:
            return
        for index, step in enumerate(source.group.workload):
            wanted = step.wait_for
            if not isinstance(wanted, written.WaitFor) or wanted.event in _ANYWAY:
                continue
            if wanted.group not in self._groups:
                continue
            if word_of(self._groups[wanted.group].group.workload[-1]) not in LEAVES:
                what = f"group {wanted.group!r} never leaves while others work: end its workload with 'leave'"
                mark = self._root.at(*source.workload_path, index, "wait-for", "event").mark
                self._problems.add(mark, what)

    def _cycle(self) -> bool:
        """Whether groups wait for each other; the first such ring is noted."""
        needs = {name: self._needs(source) for name, source in self._groups.items()}

        def way_back(start: str, name: str, trail: tuple[str, ...]) -> tuple[str, ...]:
            for other, _ in needs.get(name, []):
                if other == start:
                    return trail
                if other not in trail and (found := way_back(start, other, (*trail, other))):
                    return found
            return ()

        for start, waits in needs.items():
            if len(trail := way_back(start, start, (start,))) > 1:
                mark = next(self._root.at(*path).mark for other, path in waits if other == trail[1])
                self._problems.add(mark, f"groups wait for each other: {' for '.join((*trail, start))}")
                return True
        return False

    def _needs(self, source: WrittenGroup) -> list[tuple[str, tuple[Place, ...]]]:
        """The groups that must be through before `source` can be, and where it says so."""
        found: list[tuple[str, tuple[Place, ...]]] = []
        if source.group.after:
            found.append((source.group.after, source.at("after")))
        for index, step in enumerate(source.group.workload):
            if isinstance(step.wait_for, written.WaitFor):
                other = step.wait_for.group
                if step.wait_for.event is Moment.PARKED and self._parks(other):
                    other = self._groups[other].group.after  # only its beginning is waited for
                if other:
                    found.append((other, (*source.workload_path, index, "wait-for", "group")))
        return found

    def _parks(self, name: str) -> bool:
        """Whether a group waits for something of its own accord."""
        known = name in self._groups
        return known and any(word_of(step) == "wait-for" for step in self._groups[name].group.workload)
