"""An item's evidence comes home with its last report: a host that dies later takes nothing along."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.host.archive import packed, unpack
from harness.plugin.bench import Bench
from harness.plugin.rerunreport import RERUN

RERUNS = "reruns"
"""Folder of the run's: has the evidence of tries that do not count, each item's under its usual name."""

FOLDER = pytest.StashKey[Path]()
"""Where an item puts its evidence, a folder in the run's; set by whoever makes it."""

MOST = 16 << 20
"""Bytes of an item's files that travel with its report; more is fetched with the rest when the run ends."""

_ATTRIBUTE = "vsock_harness_evidence"


class Packing:
    """On a worker that is not where the run was started."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the files into the report; here they are no longer."""
        report = yield
        folder = item.stash.get(FOLDER, None)
        if call.when == "teardown" and folder is not None and folder.is_dir():
            results = Bench.of(item.config).results
            if sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) <= MOST:
                setattr(report, _ATTRIBUTE, packed(folder, str(folder.relative_to(results))))
                shutil.rmtree(folder)
        return report


def passed_on(told: Iterable[Any], report: Any) -> None:
    """What an item's reports have with them comes home with that one, which is told instead of them."""
    for one in told:
        if data := one.__dict__.pop(_ATTRIBUTE, None):
            setattr(report, _ATTRIBUTE, data)


class Unpacking:
    """On the process that the user started. `results` is the run's folder; `notes` gets what went wrong."""

    def __init__(self, results: Path, notes: list[str]) -> None:
        self._results = results
        self._notes = notes

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write what came to where it belongs; the verdict stands where that fails, as on a full disk."""
        data = report.__dict__.pop(_ATTRIBUTE, None)
        if data is None:
            return
        try:
            folder = self._results / RERUNS if report.outcome == RERUN else self._results
            folder.mkdir(exist_ok=True)
            unpack(data, folder)
        except (OSError, tarfile.TarError) as error:
            self._notes.append(f"{report.nodeid}: its evidence is lost: {error}")
