"""A results folder as data: what the process that ran the tests wrote of them, and each item's evidence.

`run.json` is a `Run`: how each test ended, why one was skipped, what never ran. Traces, verdicts, plans and
facts are in the items' own folders, ``SCENARIO-LINK``. All that is shown of a run comes from these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

from harness.model import density
from harness.model.claims import Claim
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.trace import Event
from harness.model.verdict import Verdict
from harness.report import whole
from harness.run.record import Facts

RUN = "run.json"


class CaseOutcome(StrEnum):
    """How a test of the run ended."""

    PASSED = "passed"
    FAILED = "failed"  # within the test: mostly, the system under test misbehaved
    ERROR = "error"  # before the test or after it: mostly, our own tools failed
    SKIPPED = "skipped"  # the host lacks an ability
    NOT_RUN = "not run"  # the run ended before it was its turn


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the item of a scenario file is about."""

    scenario: str
    claim: Claim
    link: Link


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a test that is no scenario's shows of a claim, by its marker ``claim``. `link` is None for all.

    `title` is its docstring's first line; `seen` and `expected` what it recorded as properties, or empty.
    """

    claim: Claim
    link: Link | None = None
    title: str = ""
    seen: str = ""
    expected: str = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One test. `id` is pytest's; `text` says why it failed or was skipped; `seconds` by pytest's phases.

    `subject` is None for a test that is no scenario's; `shown` is of those that bear a claim. `host` is the
    alias of the run's host that it ran on, "" if it ran where the run was started. `slowness` is that host's
    when it began, 0 of a test that runs no VMs.
    """

    id: str
    outcome: CaseOutcome
    text: str = ""
    seconds: dict[str, float] = {}
    subject: Subject | None = None
    shown: Shown | None = None
    host: str = ""
    slowness: float = 0.0

    @property
    def name(self) -> str:
        """Of a test that is no scenario's: `id` without the folders of its module."""
        return _name(self.id)

    @property
    def told(self) -> str:
        """`text` without what `subject` says too."""
        of = f"{self.subject.scenario} on {self.subject.link}: " if self.subject else ""
        text = self.text.strip()
        return text.removeprefix(f"FAIL {of}").removeprefix(f"ERROR {of}") if of else text

    @property
    def reason(self) -> str:
        """The line of `text` that says most: of a traceback the first that pytest marks, else the first."""
        lines = self.told.split("\n")
        return next((line[2:].strip() for line in lines if line.startswith("E  ")), lines[0])


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A test that the run's choice left out. `id`, `subject` and `shown` are as of a `Case`."""

    id: str
    subject: Subject | None = None
    shown: Shown | None = None

    @property
    def name(self) -> str:
        """The scenario's; of a test that is none's, as of a `Case`."""
        return self.subject.scenario if self.subject else _name(self.id)

    @property
    def claim(self) -> Claim | None:
        """What it would have tried; None if no claim."""
        of = self.subject or self.shown
        return of.claim if of else None

    @property
    def link(self) -> Link | None:
        """Where; None if it has no link."""
        of = self.subject or self.shown
        return of.link if of else None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario file says of itself."""

    title: str
    about: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `host`: where its VMs ran and why there, in lines. `started`: ISO 8601; `seconds`: of all.

    `exit_code` is pytest's, None if it did not get as far as one. `notes`: what went wrong beside the tests.
    `left_out`: tests where the run looked that were not asked for; `choice`: the words that did that.
    """

    host: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    notes: tuple[str, ...] = ()
    scenarios: dict[str, About] = {}
    cases: tuple[Case, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    choice: str = ""


class Versions(msgspec.Struct, frozen=True):
    """Our version and commit (if this is a checkout), this machine's; images by name: id and kernel."""

    harness: str
    commit: str
    python: str
    kernel: str
    pytest: str
    images: dict[str, str]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario on a link: how it ended, and the evidence as far as there is any.

    `files` are names in `folder`, which is relative to the run's. `unreadable`: a line for each that is torn.
    """

    case: Case
    subject: Subject
    title: str
    about: str
    folder: str
    files: tuple[str, ...] = ()
    plan: Plan | None = None
    verdict: Verdict | None = None
    facts: Facts | None = None
    trace: tuple[Event, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def outcome(self) -> CaseOutcome:
        """How it ended."""
        return self.case.outcome

    @property
    def differences(self) -> tuple[str, ...]:
        """The verdict's, without the link's name before each."""
        found = self.verdict.differences if self.verdict else ()
        return tuple(text.removeprefix(f"{self.subject.link}: ") for text in found)

    @property
    def difference(self) -> str:
        """What was not as it should be, in a line; what no verdict says, the error does."""
        return next(iter(self.differences), self.case.reason)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run. `run` is None where it was cut off before it could write `run.json`.

    `items` are sorted by claim, scenario and link; `others` are the tests that are no scenario's.
    `files` are those of the run itself and of its hosts, as paths relative to the run's folder. `density`
    is what tests measured.
    """

    name: str
    run: Run | None
    versions: Versions | None
    items: tuple[Item, ...]
    others: tuple[Case, ...]
    files: tuple[str, ...]
    unreadable: tuple[str, ...]
    density: tuple[density.Density, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every test."""
        return (*(item.case for item in self.items), *self.others)

    @property
    def counts(self) -> dict[CaseOutcome, int]:
        """Tests by outcome; each outcome is there."""
        return counted(self.cases)

    @property
    def links(self) -> tuple[Link, ...]:
        """The links that any item used; all links if there are no items."""
        used = {item.subject.link for item in self.items}
        used |= {case.shown.link for case in self.others if case.shown and case.shown.link}
        return tuple(link for link in Link if link in used or not used)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What tries a claim, and the run was not asked for: scenarios on links that they have, and tests."""
        return tuple(one for one in self.run.left_out if one.claim) if self.run else ()

    def left_out_of(self, claim: Claim) -> frozenset[Link | None]:
        """The links on which something of a claim was left out; None is one, of tests without a link."""
        return frozenset(one.link for one in self.left_out if one.claim is claim)

    @property
    def columns(self) -> tuple[Link | None, ...]:
        """Where claims were tried: `links`, and None if there are tests without one."""
        return (*self.links, *([None] if any(shown.link is None for _, shown in self.shown) else []))

    @property
    def choice(self) -> str:
        """How many of how many tests were left out, and by which words; "" if none was."""
        count = len(self.run.left_out) if self.run else 0
        if self.run is None or not count:
            return ""
        by = f" by {self.run.choice}" if self.run.choice else ""
        return f"{count} of {count + len(self.cases)} left out{by}"

    @property
    def shown(self) -> tuple[tuple[Case, Shown], ...]:
        """The tests that are no scenario's and bear a claim."""
        return tuple((case, case.shown) for case in self.others if case.shown)


def _name(identity: str) -> str:
    return identity.split("/")[-1]


def counted(cases: Iterable[Case]) -> dict[CaseOutcome, int]:
    """How many ended in each way; each is there."""
    found = Counter(case.outcome for case in cases)
    return {outcome: found[outcome] for outcome in CaseOutcome}


def write(folder: Path, run: Run) -> None:
    """Write `run.json` into `folder`.

    :raise OSError: when that fails.
    """
    whole.write(folder / RUN, msgspec.json.format(msgspec.json.encode(run)) + b"\n")
