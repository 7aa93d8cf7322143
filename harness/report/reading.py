"""From a results folder to `harness.report.results.Results`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.model import density
from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.verdict import Verdict
from harness.report.results import RUN, Case, CaseOutcome, Item, Results, Run, Subject, Versions
from harness.run.record import Facts
from harness.run.tracefile import read_trace

_HINT = "vsock-harness run makes one; or name another run's folder"

T = TypeVar("T")


def read(folder: Path) -> Results:
    """All that `folder` holds of a run. Evidence that is missing or torn is missing in the results.

    :raise UsageError: `folder` is no results folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", hint=_HINT)
    unreadable: list[str] = []
    run = _decoded(folder / RUN, Run, unreadable)
    versions = _decoded(folder / "versions.json", Versions, unreadable)
    if run is None and versions is None and not any(folder.glob("*/plan.json")):
        raise UsageError(
            f"{folder}: no results of a run: neither {RUN} nor versions.json nor any plan.json is in it",
            hint=_HINT,
        )
    cases = run.cases if run else _judged(folder)
    items = [_item(folder, case, case.subject, run) for case in cases if case.subject]
    items.sort(key=lambda item: _place(item.subject))
    taken = {item.folder for item in items}
    paths = sorted(folder.glob(f"*/{density.FILE}"))
    measured = [_decoded(path, density.Density, unreadable) for path in paths]
    return Results(
        name=folder.resolve().name,
        run=run,
        versions=versions,
        items=tuple(items),
        others=tuple(case for case in cases if not case.subject),
        files=tuple(name for name in _names(folder) if name.split("/")[0] not in taken),
        unreadable=tuple(unreadable),
        density=tuple(one for one in measured if one),
    )


def _judged(folder: Path) -> tuple[Case, ...]:
    """What the verdicts say, where nobody could write down how the tests ended."""
    cases = []
    for path in sorted(folder.glob("*/verdict.json")):
        verdict = _decoded(path, Verdict, [])
        if verdict is None or path.parent.name != f"{verdict.scenario}-{verdict.link}":
            continue
        case = Case(
            id=f"{verdict.scenario}::{verdict.link}",
            outcome=CaseOutcome(verdict.outcome.value),
            text="\n".join(verdict.differences),
            subject=Subject(scenario=verdict.scenario, claim=verdict.claim, link=verdict.link),
        )
        cases.append(case)
    return tuple(cases)


def _place(subject: Subject) -> tuple[int, str, int]:
    return list(Claim).index(subject.claim), subject.scenario, list(Link).index(subject.link)


def _item(folder: Path, case: Case, subject: Subject, run: Run | None) -> Item:
    own = folder / f"{subject.scenario}-{subject.link}"
    unreadable: list[str] = []
    plan = _decoded(own / "plan.json", Plan, unreadable)
    about = run.scenarios.get(subject.scenario) if run else None
    return Item(
        case=case,
        subject=subject,
        title=about.title if about else plan.title if plan else subject.scenario,
        about=about.about if about else "",
        folder=own.name,
        files=tuple(_names(own)),
        plan=plan,
        verdict=_decoded(own / "verdict.json", Verdict, unreadable),
        facts=_decoded(own / "facts.json", Facts, unreadable),
        trace=_read(own / "trace.jsonl", read_trace, unreadable) or (),
        unreadable=tuple(unreadable),
    )


def _names(folder: Path) -> list[str]:
    """The files below `folder` that hold something, relative to it."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(str(path.relative_to(folder)) for path in found)


def _decoded(path: Path, kind: type[T], unreadable: list[str]) -> T | None:
    return _read(path, lambda found: msgspec.json.decode(found.read_bytes(), type=kind), unreadable)


def _read(path: Path, reading: Callable[[Path], T], unreadable: list[str]) -> T | None:
    """What `reading` makes of a file; None, and a line in `unreadable`, where it can't be made sense of."""
    try:
        return reading(path)
    except FileNotFoundError:
        return None
    except (OSError, UsageError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        unreadable.append(f"{path.name} can't be read: {error}")
        return None
