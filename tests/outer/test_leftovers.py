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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.host.depot import Depot
from harness.host.paths import cache_root
from harness.host.speed import slowness
from harness.lab import saved
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]


class Run:
    """`vsock-harness run` of one scenario, with a TMPDIR of its own, so that all it leaves can be seen."""

    def __init__(self, folder: Path, *arguments: str, own_cache: bool = False) -> None:
        """With `own_cache`, images are as ever, but no lab is saved yet."""
        self.folder = folder
        self.cache = folder / "c"
        cache = {}
        if own_cache:
            (self.cache / "vsock-harness").mkdir(parents=True)
            (self.cache / "vsock-harness" / "images").symlink_to(cache_root() / "images")
            cache = {"XDG_CACHE_HOME": str(self.cache)}
        self.said = folder / "said"
        self.temporary = folder / "t"
        self.temporary.mkdir()
        argv = [
            sys.executable,
            "-c",
            "from harness.cli.main import entry; entry()",
            "run",
            "scenarios/pod-diagram.yaml",
            *("--link", "vsock,virtio-serial,serial-proxy"),
        ]
        argv += ["--host", "lab", "-n", "1", "--results", str(folder / "results"), *arguments]
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env={
                    **{name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"},
                    "TMPDIR": str(self.temporary),
                    **cache,
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
        """Number and command line of each process that this run's environment marks, but the run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = str(self.temporary).encode() in (path / "environ").read_bytes()
                if marked and int(path.name) != self.process.pid:
                    words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"{path.name} {words}")
        return found

    def files(self) -> list[str]:
        """What is in the run's TMPDIR but for the empty folder of run folders."""
        found = (path for path in self.temporary.rglob("*"))
        return [str(path) for path in found if path.name != f"vsock-harness-{os.getuid()}"]


@contextlib.contextmanager
def running(*arguments: str, own_cache: bool = False) -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="vh-", dir="/tmp"))
    run = Run(folder, *arguments, own_cache=own_cache)
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        shutil.rmtree(folder)


def end(run: Run, stage: str, number: signal.Signals) -> None:
    """End it in that stage, and see that nothing is left."""
    until(lambda: run.reached(stage), Deadline(300 * slowness()), f"the stage {stage!r}")
    until(run.processes, Deadline(20 * slowness()), "a process of the run")  # the look sees what is there
    assert run.files()
    run.process.send_signal(number)
    run.process.wait(60 * slowness())
    until(lambda: not run.processes(), Deadline(20 * slowness()), "the end of its processes")
    with contextlib.suppress(DeadlinePassed):
        until(lambda: not run.files(), Deadline(20 * slowness()), "the end of its files")
    assert run.files() == []


def test_a_whole_run_is_green_and_leaves_nothing() -> None:
    """The first of all: where no lab is saved yet, this one does it."""
    with running() as run:
        assert run.process.wait(600 * slowness()) == 0, run.said.read_text()
        assert "3 passed" in run.said.read_text()
        assert run.processes() == []
        assert run.files() == []


CASES = [
    ("lab: booting", signal.SIGKILL),
    ("lab: restoring", signal.SIGINT),
    ("created: 1/1 worker", signal.SIGTERM),
    ("PASSED", signal.SIGKILL),
    ("PASSED", signal.SIGINT),
]


@pytest.mark.parametrize(("stage", "number"), CASES, ids=lambda value: str(getattr(value, "name", value)))
def test_a_run_that_is_ended_leaves_nothing(stage: str, number: signal.Signals) -> None:
    with running(*(["--fresh-lab"] if stage == "lab: booting" else [])) as run:
        end(run, stage, number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda value: str(value.name))
def test_a_lab_that_was_being_saved_is_none(number: signal.Signals) -> None:
    with running(own_cache=True) as run:
        labs = Depot(run.cache / "vsock-harness" / "labs", saved.LIMITS)
        until(lambda: list(labs.root.glob("new-*/ram")), Deadline(300 * slowness()), "a lab being saved")
        end(run, "lab: saving", number)
        assert labs.kept() == []
        labs.prune()
        assert [path.name for path in labs.root.iterdir() if path.is_dir()] == []


def kill_emulator(run: Run) -> None:
    qemu = next(line for line in run.processes() if "qemu-system" in line)
    os.kill(int(qemu.split(maxsplit=1)[0]), signal.SIGKILL)


def crash_kernel(run: Run) -> None:
    """The lab's own, from within; the connection that asks for it gets no answer."""
    config = next(run.temporary.rglob("lab0.ssh_config"))
    words = ["ssh", "-F", str(config), "lab0", "echo c >/proc/sysrq-trigger"]
    asking = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    until(lambda: run.reached("lab0 was replaced"), Deadline(120 * slowness()), "the lab's replacement")
    asking.kill()
    asking.wait()


@pytest.mark.parametrize("die", [kill_emulator, crash_kernel])
def test_a_lab_that_dies_is_replaced_and_what_it_was_in_run_once_more(die: Callable[[Run], None]) -> None:
    with running() as run:
        until(lambda: run.reached("PASSED"), Deadline(240 * slowness()), "the first item's end")
        die(run)
        assert run.process.wait(240 * slowness()) == 0, run.said.read_text()
        said = run.said.read_text()
        assert "3 passed" in said
        assert "lab0 was replaced" in said
        assert run.files() == []
