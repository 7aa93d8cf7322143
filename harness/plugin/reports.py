"""What the process that the user started writes of a run at its end: `run.json`, the report, the CI summary.

How each test ended is not in the items' own folders: one that was skipped, or whose pod never came up,
leaves little or nothing there. So each test's reports are kept as they come, from here or from workers.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
import types
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.scenario import SUFFIXES, Scenario, load
from harness.plugin import trial
from harness.plugin.bench import SLOWNESS
from harness.plugin.collect import CLAIMED, LEFT_OUT, claimed, scenario_files
from harness.plugin.rerunreport import NOT_RUN, RERUN
from harness.report import html, markdown, reading, results
from harness.report.results import About, Case, CaseOutcome, LeftOut, Run, Shown, Subject

HEADER = pytest.StashKey[list[str]]()
"""Which host, why, and where the evidence goes."""

NOTES = pytest.StashKey[list[str]]()
"""What went wrong with hosts and evidence, a line each."""

HOST = "host"
"""The property of a test in JUnit XML: the alias of the host that it ran on."""

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file whose Markdown GitHub shows on a job's page."""


@contextlib.contextmanager
def written(config: pytest.Config, folder: Path) -> Iterator[None]:
    """Around all of a run: `folder` then has its reports, however the tests ended, and stdout says where.

    Enter it before the hosts come up, so that their evidence is home when it is left. Where no session
    began, nothing is written, unless the run was interrupted before: there is no more to come then.
    """
    record = Record({path.stem: load(path) for path in scenario_files(config)})
    config.pluginmanager.register(record, "vsock-harness-record")
    config.pluginmanager.register(sys.modules[__name__], "vsock-harness-reports")
    try:
        yield
    except KeyboardInterrupt:
        record.interrupted = True
        raise
    finally:
        if record.session is not None or record.interrupted:
            run = record.run(_host(config), config.stash[NOTES], trial.chosen(config))
            sys.stdout.write("".join(f"{line}\n" for line in [*config.stash[NOTES], *_write(folder, run)]))
            sys.stdout.flush()


def _host(config: pytest.Config) -> list[str]:
    return [line for line in config.stash[HEADER] if not line.startswith("results: ")]


def _write(folder: Path, run: Run) -> Iterator[str]:
    """All three files and the CI's page; what there is to say of it. One that fails keeps no other back."""
    wrong: list[str] = []
    with _told(wrong):
        results.write(folder, run)
    with _told(wrong):
        found = reading.read(folder)
        with _told(wrong):
            if found.choice:
                yield f"left out: {found.choice}"
            html.write(found, folder)
            yield f"report: {_shown(folder / html.NAME)}"
        with _told(wrong):
            markdown.write(found, folder)
        if page := os.environ.get(STEP_SUMMARY):
            with _told(wrong), open(page, "a", encoding="utf-8") as file:
                file.write(markdown.markdown(found) + "\n")
    yield from wrong


@contextlib.contextmanager
def _told(wrong: list[str]) -> Iterator[None]:
    """A file that can't be written is a line in `wrong`, not the end of the run."""
    try:
        yield
    except OSError as error:
        wrong.append(f"can't be written: {error.filename}: {error.strerror}")
    except UsageError as error:  # nothing of the run could be written
        wrong.append(f"no report: {error.summary}")


def _shown(path: Path) -> str:
    """By way of `latest`, if that is this run's, and from here."""
    latest = path.parent.with_name("latest") / path.name
    with contextlib.suppress(OSError):
        path = latest if latest.samefile(path) else path
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """A JUnit file that can't be written is told behind the table of all, not instead of it.

    Innermost of the wrappers, as the terminal's own makes the table. Who asked for the file is to see that it
    is missing: a run that is green otherwise ends with pytest's code of an internal error.
    """
    try:
        return (yield)
    except OSError as error:
        path = error.filename or session.config.option.xmlpath
        with contextlib.suppress(OSError, TypeError):
            Path(path).unlink()  # half of it would be taken for all
        session.config.stash[NOTES].append(f"can't be written: {path}: {error.strerror}")
        session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR


class Record:
    """Keeps what pytest tells of a run, by its hooks."""

    def __init__(self, scenarios: dict[str, Scenario]) -> None:
        self.session: pytest.Session | None = None
        self.interrupted = False
        self._scenarios = scenarios
        self._finished = False
        self._started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self._begun = time.monotonic()
        self._reports: dict[str, dict[str, pytest.TestReport]] = {}
        self._uncollected: dict[str, str] = {}
        self._notes: list[str] = []
        self._left_out: set[str] = set()
        self._claimed: dict[str, tuple[str, str | None]] = {}

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """From here on there is something to report."""
        self.session = session

    def pytest_sessionfinish(self) -> None:
        """The exit code means something now."""
        self._finished = True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What is to run, where this process runs it."""
        self._expect([item.nodeid for item in session.items])
        self._learn(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """What is to run, where workers run it; each tells the same (a hook of pytest-xdist)."""
        self._expect(ids)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """What is left out, where this process collects."""
        self._left_out.update(item.nodeid for item in items)
        self._learn(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker ended; what it collected and left out, if it came to tell (a hook of pytest-xdist)."""
        told = getattr(node, "workeroutput", {})
        self._left_out.update(told.get(LEFT_OUT, ()))
        self._claimed |= told.get(CLAIMED, {})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What can't be collected is an error of the run."""
        if report.failed:
            self._uncollected[report.nodeid] = report.longreprtext

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test ended. One that is set up anew begins anew."""
        if report.outcome == RERUN:
            self._notes.append(f"rerun: {report.nodeid}: {report.longrepr}")
            return
        if report.outcome not in ("passed", "failed", "skipped"):
            return
        if report.when == "setup":
            self._reports[report.nodeid] = {}
        self._reports.setdefault(report.nodeid, {})[str(report.when)] = report

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What never ran is counted in pytest's last line, which is not green then, and says its claim."""
        missing = [
            types.SimpleNamespace(nodeid=name)  # other plugins look at what they take for reports
            for name, told in self._reports.items()
            if _outcome(told) is CaseOutcome.NOT_RUN
        ]
        if missing:
            terminalreporter._add_stats(NOT_RUN, missing)
        for told in terminalreporter.stats.get(NOT_RUN, ()):
            told.user_properties = self._about(told.nodeid)

    def run(self, host: list[str], notes: list[str], choice: str) -> Run:
        """All of it, as far as it came."""
        code = int(self.session.exitstatus) if self.session is not None and self._finished else None
        if self.session is None and self.interrupted:
            code = int(pytest.ExitCode.INTERRUPTED)
            self._notes.append("interrupted before the first test")
        uncollected = [
            Case(id=name, outcome=CaseOutcome.ERROR, text=text) for name, text in self._uncollected.items()
        ]
        return Run(
            host=tuple(host),
            started=self._started,
            seconds=round(time.monotonic() - self._begun, 1),
            exit_code=code,
            notes=(*notes, *self._notes),
            scenarios={
                name: About(title=one.title, about=one.about) for name, one in self._scenarios.items()
            },
            cases=(*(self._case(name, told) for name, told in self._reports.items()), *uncollected),
            left_out=tuple(
                LeftOut(id=name, subject=self._subject(name), shown=self._shown(name))
                for name in sorted(self._left_out.difference(self._reports))
            ),
            choice=choice,
        )

    def _expect(self, ids: Sequence[str]) -> None:
        for name in ids:
            self._reports.setdefault(name, {})

    def _case(self, name: str, told: dict[str, pytest.TestReport]) -> Case:
        outcome = _outcome(told)
        texts = [_text(report) for report in told.values() if not report.passed]
        if outcome is CaseOutcome.NOT_RUN and told:
            texts = ["the run ended while it ran"]
        return Case(
            id=name,
            outcome=outcome,
            text="\n\n".join(texts),
            seconds={when: round(report.duration, 3) for when, report in told.items()},
            subject=self._subject(name),
            shown=_shown_by(told) or self._shown(name),
            host=_said(told, HOST),
            slowness=float(_said(told, SLOWNESS) or 0),
        )

    def _learn(self, items: Iterable[pytest.Item]) -> None:
        self._claimed |= {item.nodeid: told for item in items if (told := claimed(item))}

    def _about(self, name: str) -> list[tuple[str, object]]:
        """The properties that a test would have told of its claim."""
        subject, shown = self._subject(name), self._shown(name)
        of = subject or shown
        told: list[tuple[str, object]] = [("scenario", subject.scenario)] if subject else []
        told += [("claim", of.claim.value)] if of else []
        return [*told, *([("link", of.link.value)] if of and of.link else [])]

    def _shown(self, name: str) -> Shown | None:
        """Of a test that told nothing itself."""
        if name not in self._claimed:
            return None
        claim, link = self._claimed[name]
        return Shown(claim=Claim(claim), link=Link(link) if link else None)

    def _subject(self, name: str) -> Subject | None:
        path, _, link = name.partition("::")
        scenario = self._scenarios.get(PurePosixPath(path).stem)
        if scenario is None or PurePosixPath(path).suffix not in SUFFIXES or link not in list(Link):
            return None
        return Subject(scenario=scenario.name, claim=scenario.claim, link=Link(link))


def _shown_by(told: dict[str, pytest.TestReport]) -> Shown | None:
    """What a test that bears a claim recorded; what it said last of one name counts."""
    said = {name: str(value) for report in told.values() for name, value in report.user_properties}
    if "scenario" in said or "claim" not in said:
        return None
    link = Link(said["link"]) if "link" in said else None
    texts = {name: said.get(name, "") for name in ("title", "seen", "expected")}
    return Shown(claim=Claim(said["claim"]), link=link, **texts)


def _said(told: dict[str, pytest.TestReport], property: str) -> str:
    said = {name: str(value) for report in told.values() for name, value in report.user_properties}
    return said.get(property, "")


def _outcome(told: dict[str, pytest.TestReport]) -> CaseOutcome:
    """A failure of the test itself hides one of what was around it."""
    call = told.get("call")
    if call is not None and call.failed:
        return CaseOutcome.FAILED
    if any(report.failed for report in told.values()):
        return CaseOutcome.ERROR
    if any(report.skipped for report in told.values()):
        return CaseOutcome.SKIPPED
    return CaseOutcome.PASSED if call is not None else CaseOutcome.NOT_RUN


def _text(report: Any) -> str:
    if report.skipped and hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)  # pytest's longreprtext has the worker's name before it
