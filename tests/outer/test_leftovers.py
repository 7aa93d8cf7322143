"""A real run, ended in every way at several stages: nothing is left, and the next run is green.

Run on the machine itself, not where pods run: `pytest tests/outer`. Each case boots a lab.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host.speed import slowness
from harness.model.deadline import Deadline, until

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]


class Run:
    """`vsock-harness run` of one scenario, with a TMPDIR of its own, so that all it leaves can be seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "said"
        self.temporary = folder / "t"
        self.temporary.mkdir()
        argv = [
            sys.executable,
            "-c",
            "from harness.cli.main import entry; entry()",
            "run",
            "scenarios/pod-diagram.yaml",
        ]
        argv += ["--host", "lab", "-n", "1", "--results", str(folder / "results")]
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env={
                    **{name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"},
                    "TMPDIR": str(self.temporary),
                },
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def reached(self, words: str) -> bool:
        """Whether the run has come to the stage that prints `words`."""
        assert self.process.poll() is None, self.said.read_text()
        return words in self.said.read_text()

    def processes(self) -> list[str]:
        """Command lines of all processes that this run's environment marks, but the run itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = str(self.temporary).encode() in (path / "environ").read_bytes()
                if marked and int(path.name) != self.process.pid:
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        return found

    def files(self) -> list[str]:
        """What is in the run's TMPDIR but for the empty folder of run folders."""
        found = (path for path in self.temporary.rglob("*"))
        return [str(path) for path in found if path.name != f"vsock-harness-{os.getuid()}"]


@pytest.fixture
def run() -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="vh-", dir="/tmp"))
    running = Run(folder)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        shutil.rmtree(folder)


CASES = [
    ("lab: booting", signal.SIGKILL),
    ("lab: booting", signal.SIGINT),
    ("created: 1/1 worker", signal.SIGTERM),
    ("PASSED", signal.SIGKILL),
    ("PASSED", signal.SIGINT),
]


@pytest.mark.parametrize(("stage", "number"), CASES, ids=lambda value: str(getattr(value, "name", value)))
def test_a_run_that_is_ended_leaves_nothing(run: Run, stage: str, number: signal.Signals) -> None:
    until(lambda: run.reached(stage), Deadline(120 * slowness()), f"the stage {stage!r}")
    until(run.processes, Deadline(20 * slowness()), "a process of the run")  # the look sees what is there
    assert run.files()
    run.process.send_signal(number)
    run.process.wait(60 * slowness())
    until(lambda: not run.processes(), Deadline(20 * slowness()), "the end of its processes")
    until(lambda: not run.files(), Deadline(20 * slowness()), "the end of its files")


def test_a_whole_run_is_green_and_leaves_nothing(run: Run) -> None:
    assert run.process.wait(240 * slowness()) == 0, run.said.read_text()
    assert "2 passed" in run.said.read_text()
    assert run.processes() == []
    assert run.files() == []
