"""A lab in the state that a user's machine may be in: `doctor` names it, and its mending command mends it.

`make requirements`, or `vsock-harness run tests/hosts --host none`. Each case boots a lab of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.lab.state import kernels
from harness.plugin.bench import RESULTS
from tests.hosts.cases import Case, cases, differing
from tests.hosts.machine import Machine, booted

CASES = [
    pytest.param(case, marks=pytest.mark.claim(case.claim.value), id=f"{case.kernel}-{case.name}")
    for case in cases(kernels())
]


@pytest.mark.vm
@pytest.mark.parametrize("case", CASES)
def test_doctor(
    case: Case, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """What `doctor` says of a host in a state, and what its mending command makes of it."""
    record_property("expected", case.words)
    logs = Path(request.config.stash[RESULTS], "labs", request.node.callspec.id)
    with booted(case, logs) as machine:
        record_property("seen", f"Linux {machine.kernel}: {shown(case, machine)}")


def shown(case: Case, machine: Machine) -> str:
    """What was seen, in a line, once all of it is as expected."""
    before = machine.findings(case.who)
    assert not differing(case.before, before)
    seen = [f"{ability} {before[ability].verdict}" for ability in case.before]
    mend = before[case.mends].mend if case.mends else ""
    assert mend == case.mend
    if case.in_vain:
        command, error = case.in_vain
        done = machine.run(command)
        assert done.code
        assert error in done.err
        seen.append(f"`{command}` fails: {error}")
    if not case.mends:
        assert not [row.mend for row in before.values() if row.ability in case.before and row.mend]
        return "; ".join(seen)
    if case.by == "fix":
        said = machine.doctor(case.who, "--fix", "--yes").out
        assert f"  {mend}\n  {case.mends}: {before[case.mends].verdict} -> ok" in said
    elif case.by == "printed":
        done = machine.run(mend)
        assert done.code == 0, done.err
    # where it is for the test to do what the command says, that is to leave away what `who` stands for
    after = machine.findings("root" if case.by == "test" else case.who)
    assert not differing(case.after, after)
    how = {"fix": "after --fix", "printed": f"after `{mend}`", "test": "without the filter"}[case.by]
    return "; ".join([*seen, f"{how}: {', '.join(f'{one} {after[one].verdict}' for one in case.after)}"])
