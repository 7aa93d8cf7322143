"""What is told of hosts that failed: tries that do not count, missing hosts, items that never ran."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

RERUN = "rerun"
"""A try that its host spoilt: its outcome, its category in pytest's last line, the property in JUnit XML."""
NOT_RUN = "not run"
"""The category of items that no host was left for."""

Place = tuple[str, int | None, str]
"""pytest's location of an item: file, line, name."""


class Try(msgspec.Struct):
    """An item that a worker has begun, and what was reported of it until now."""

    item: str
    place: Place
    reports: list[Any]

    @property
    def has_passed(self) -> bool:
        """Whether it has ended and nothing failed: what its host does afterwards is not about it."""
        ended = any(report.when == "teardown" for report in self.reports)
        return ended and not any(report.failed for report in self.reports)


class Spoilt(msgspec.Struct, frozen=True):
    """A try that its host spoilt, and how; `reason` may have several lines."""

    attempt: Try
    host: str
    reason: str

    def __str__(self) -> str:
        return f"{self.host}: {self.reason}"

    @property
    def properties(self) -> tuple[tuple[str, object], ...]:
        """The item's user properties, if it came so far that it told them."""
        reports = self.attempt.reports
        return tuple(reports[-1].user_properties) if reports else ()

    def report(self) -> pytest.TestReport:
        """The try as an outcome of its own: neither passed nor failed nor skipped.

        Not for JUnit XML, which would open a test case that nothing fills: there, the test case of the try
        that counts has a property.
        """
        outcome: Any = RERUN
        return pytest.TestReport(
            nodeid=self.attempt.item,
            location=self.attempt.place,
            keywords={},
            outcome=outcome,
            longrepr=str(self),
            when="call",
        )


def error(item: str, place: Place, text: str, **more: Any) -> list[pytest.TestReport]:
    """pytest's ERROR for an item that does not say itself what became of it; `<error>` in JUnit XML.

    Two reports, as of a set-up that failed: at the second one JUnit XML closes the test case.
    """
    common: dict[str, Any] = {"nodeid": item, "location": place, "keywords": {}, **more}
    return [
        pytest.TestReport(outcome="failed", longrepr=text, when="setup", **common),
        pytest.TestReport(outcome="passed", longrepr=None, when="teardown", **common),
    ]


def publish(config: pytest.Config, node: Any, report: Any) -> None:
    """Report what a worker told to all but JUnit XML."""
    report.node = node
    manager = config.pluginmanager
    junit = [plugin for plugin in manager.get_plugins() if type(plugin).__name__ == "LogXML"]
    manager.subset_hook_caller("pytest_runtest_logreport", remove_plugins=junit)(report=report)


def not_run(item: str, why: str) -> list[pytest.TestReport]:
    """An item that never ran: counted apart on the terminal, an `<error>` in JUnit XML."""
    file, _, name = item.partition("::")
    return error(item, (file, None, name.replace("::", ".")), f"not run: {why}", vsock_not_run=True)


class Reruns:
    """The tries of a run that do not count; a pytest plugin that tells them and what became of the hosts."""

    def __init__(self) -> None:
        self.made: dict[str, Spoilt] = {}
        self.notes: list[str] = []
        self.end = ""

    def mark(self, report: Any) -> None:
        """Note on a report that an earlier try of its item does not count."""
        if spoilt := self.made.get(report.nodeid):
            report.user_properties.append((RERUN, str(spoilt)))

    def error(self, last: Spoilt) -> list[pytest.TestReport]:
        """An item that is not tried again: the reason of each try, and what the last one said itself."""
        attempt, first = last.attempt, self.made.get(last.attempt.item)
        if first is None:
            text = f"its host failed while the run was stopping\n  {last}"
        else:
            text = f"its host failed at both tries\n  first: {first}\n  then: {last}"
        said = [report.longreprtext for report in attempt.reports if report.failed]
        properties = last.properties or (first.properties if first else ())
        lines = [f"ERROR {attempt.item}: {text}", *said]
        return error(attempt.item, attempt.place, "\n".join(lines), user_properties=properties)

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Category, letter and word of the outcomes that pytest does not know."""
        if report.outcome == RERUN:
            return RERUN, "R", ("RERUN", {"yellow": True})
        if report.failed and getattr(report, "vsock_not_run", False):
            return NOT_RUN, "N", ("NOT RUN", {"red": True})
        return None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run that no host was left for has failed, even if nothing was collected."""
        if self.end:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Each try that does not count, with host and reason; then which hosts were missing."""
        if not (self.made or self.notes or self.end):
            return
        terminalreporter.write_sep("=", "hosts that failed")
        for item, spoilt in self.made.items():
            terminalreporter.write_line(f"RERUN {item} on {_indented(str(spoilt))}")
        for note in self.notes:
            terminalreporter.write_line(_indented(note))
        if self.end:
            terminalreporter.write_line(self.end, red=True, bold=True)


def _indented(text: str) -> str:
    return text.rstrip().replace("\n", "\n    ")
