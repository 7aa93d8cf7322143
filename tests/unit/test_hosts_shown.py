"""What `tests/hosts` shows of a lab in a state goes red where `doctor`, or its mending, is another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from harness.host.finding import Finding, Verdict
from harness.lab.ssh import Done
from harness.lab.state import OWN_KERNEL
from tests.hosts.cases import Case, Expected, cases
from tests.hosts.test_requirements import shown

CASES = cases([OWN_KERNEL])
BY_NAME = {case.name: case for case in CASES}


class Machine:
    """A host as the case has it, but for what `broken` names."""

    def __init__(self, case: Case, broken: str = "") -> None:
        self._case = case
        self._broken = broken
        self._mended = False

    def findings(self, who: str) -> dict[str, Finding]:
        unfiltered = self._case.by == "test" and who == "root"
        if (self._mended or unfiltered) and self._broken != "mends nothing":
            return {one.ability: one for one in told({**self._case.before, **self._case.after})}
        found = {one.ability: one for one in told({**self._case.after, **self._case.before})}
        first = next(iter(self._case.before))
        changes: dict[str, tuple[str, dict[str, Any]]] = {
            "finds another state": (first, {"verdict": Verdict.UNKNOWN}),
            "says it otherwise": (first, {"seen": "something"}),
            "prints another command": (self._case.mends, {"mend": "reboot"}),
            "mends what is well": (first, {"mend": "reboot"}),
        }
        if self._case.mends:
            found[self._case.mends] = msgspec.structs.replace(found[self._case.mends], mend=self._case.mend)
        if self._broken in changes:
            ability, change = changes[self._broken]
            found[ability] = msgspec.structs.replace(found[ability], **change)
        return found

    def doctor(self, who: str, *options: str) -> Done:
        assert options == ("--fix", "--yes")
        self._mended = True
        if self._broken == "fixes without a word":
            return Done(code=0, out="", err="")
        verdict = self._case.before[self._case.mends][0]
        return Done(code=0, out=f"  {self._case.mend}\n  {self._case.mends}: {verdict} -> ok\n", err="")

    def run(self, command: str) -> Done:
        if self._case.in_vain and command == self._case.in_vain[0]:
            if self._broken == "needs no more than what was in vain":
                return Done(code=0, out="", err="")
            return Done(
                code=1, out="", err="oh" if self._broken == "fails otherwise" else self._case.in_vain[1]
            )
        if self._broken == "can't be mended so":
            return Done(code=1, out="", err="modprobe: FATAL")
        assert command == self._case.mend
        self._mended = True
        return Done(code=0, out="", err="")


def told(expected: Expected) -> Iterable[Finding]:
    """Findings that are as expected."""
    for ability, (verdict, words) in expected.items():
        yield Finding(ability=ability, verdict=verdict, seen=f"... {words} ...", needed_for="pods")


def seen(case: Case, broken: str = "") -> str:
    machine: Any = Machine(case, broken)
    return shown(case, machine)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_host_as_it_should_be_passes(name: str) -> None:
    case = BY_NAME[name]
    assert all(f"{ability} {verdict}" in seen(case) for ability, (verdict, _) in case.before.items())


def ways(case: Case) -> dict[str, str]:
    """How a machine of the case can be broken, and words of what the test says then."""
    first = next(iter(case.before))
    found = {
        "finds another state": f"{first} is unknown (",
        "says it otherwise": f"{first} is {case.before[first][0]} (something), expected",
    }
    if not case.mends:
        return {**found, "mends what is well": "reboot"}
    found["prints another command"] = "'reboot' == "
    if any(wanted != case.before.get(ability) for ability, wanted in case.after.items()):
        found["mends nothing"] = f"{case.mends} is {case.before[case.mends][0]} ("
    if case.by == "fix":
        found["fixes without a word"] = "-> ok"
    if case.by == "printed":
        found["can't be mended so"] = "modprobe: FATAL"
    if case.in_vain:
        found["needs no more than what was in vain"] = "Done(code=0"
        found["fails otherwise"] = "'oh'"
    return found


@pytest.mark.parametrize(
    ("name", "broken", "says"), [(case.name, way, says) for case in CASES for way, says in ways(case).items()]
)
def test_a_host_that_differs_turns_it_red(name: str, broken: str, says: str) -> None:
    with pytest.raises(AssertionError) as failed:
        seen(BY_NAME[name], broken)
    assert says in str(failed.value)
