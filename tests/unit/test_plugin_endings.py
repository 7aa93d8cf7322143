"""Runs that are ended from outside, and by full disks: a line and an exit code, no traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.host.pipes import PIPE_CLOSED
from harness.plugin import endings
from tests.unit.hangs import HANGS
from tests.unit.test_plugin import SCENARIO

BEFORE = """\
import errno, os, time
from harness.plugin import hosts

def choose(*_):
    if os.environ["TROUBLE"] == "none":
        print("CHOSEN", flush=True)
        return hosts.Choice("none", "it is a test")
    if os.environ["TROUBLE"] == "full":
        raise OSError(errno.ENOSPC, "No space left on device", os.environ["FOLDER"])
    print("WAITING", flush=True)
    time.sleep(600)

hosts.choose = choose
"""

DURING = """\
import signal, threading

def pytest_sessionfinish():
    answer, answered = signal.getsignal(signal.SIGINT), threading.Event()
    signal.signal(signal.SIGINT, lambda *what: (answer(*what), answered.set()))
    print("WAITING", flush=True)
    assert answered.wait(100)
"""

TESTS = """\
import time
def test_it():
    print("WAITING", flush=True)
    time.sleep(600)
"""

LEFT = """\
def test_first():
    pass
def test_second():
    open("go").read(1)
def test_third():
    pass
"""


def signalled(project: Path, *words: str, signals: list[signal.Signals]) -> tuple[int, str]:
    """Exit code and all output of pytest there, to which each signal was sent once it said WAITING again."""
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-s", *words]
    env = {**os.environ, "XDG_CACHE_HOME": str(project / "cache"), "TROUBLE": "hangs"}
    with subprocess.Popen(
        argv, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            for number in signals:
                for line in process.stdout:
                    said += line
                    if "WAITING" in line:
                        process.send_signal(number)
                        break
            said += process.stdout.read()
            return process.wait(HANGS), said
        finally:
            process.kill()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/one.yaml").write_text(SCENARIO)
    (tmp_path / "pytest.ini").touch()
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_tests_it_is_a_line_and_an_end_is_written(project: Path, number: signal.Signals) -> None:
    (project / "conftest.py").write_text(BEFORE)
    code, said = signalled(project, "scenarios", signals=[number])
    assert code == 2, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "vsock-harness: interrupted"
    run = json.loads((project / "results/latest/run.json").read_text())
    assert run["exit_code"] == 2
    assert "interrupted before the first test" in run["notes"]
    assert "The run was interrupted." in (project / "results/latest/summary.md").read_text()


def test_a_second_interrupt_does_not_cut_the_end_short(project: Path) -> None:
    (project / "conftest.py").write_text(DURING)
    (project / "test_it.py").write_text(TESTS + "def test_never():\n    pass\n")
    code, said = signalled(project, "test_it.py", "--host", "none", signals=[signal.SIGINT] * 2)
    assert code == 2, said
    assert "Traceback" not in said
    assert "ending what was begun" in said
    assert "2 not run in " in said
    assert json.loads((project / "results/latest/run.json").read_text())["exit_code"] == 2


def test_who_leaves_the_output_ends_the_run_without_a_word(project: Path) -> None:
    (project / "test_it.py").write_text(LEFT)
    os.mkfifo(project / "go")
    go = os.open(project / "go", os.O_RDWR)
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--host", "none"]
    with subprocess.Popen(
        [*argv, "test_it.py"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert any("test_first PASSED" in line for line in process.stdout)
            process.stdout.close()
            os.write(go, b"x")
            assert process.stderr.read() == ""
            assert process.wait(HANGS) == PIPE_CLOSED
        finally:
            process.kill()
            os.close(go)
    run = json.loads((project / "results/latest/run.json").read_text())
    assert run["exit_code"] == PIPE_CLOSED
    assert run["cases"][2]["outcome"] == "not run"
    assert "left, which ended the run." in (project / "results/latest/summary.md").read_text()


def test_who_leaves_before_the_first_test_does_as_well(project: Path) -> None:
    argv = [sys.executable, "-m", "harness.cli", "run", "scenarios", "--list", "--", "-p", "no:cacheprovider"]
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(argv, cwd=project, stdout=theirs, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")


def test_a_full_disk_is_one_error(project: Path) -> None:
    (project / "conftest.py").write_text(BEFORE)
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "scenarios"]
    env = {**os.environ, "TROUBLE": "full", "FOLDER": "/there/qemu.cmdline", "XDG_CACHE_HOME": str(project)}
    done = subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    said = done.stdout + done.stderr
    assert "ERROR: /there/qemu.cmdline: No space left on device\n" in said
    assert "hint: --results DIR" in said
    assert "Traceback" not in said


def test_an_image_that_must_be_and_can_not_is_told_before_any_host(project: Path) -> None:
    (project / "conftest.py").write_text(BEFORE)
    (project / "scenarios/one.yaml").write_text(SCENARIO.replace("virtio-serial", "hybrid-vsock"))
    (project / "file").touch()
    argv = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--link",
        "hybrid-vsock",
        "scenarios",
    ]
    env = {**os.environ, "TROUBLE": "none", "XDG_CACHE_HOME": str(project / "file")}
    done = subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert (
        f"the image cache {project}/file/vsock-harness/images can't be written: Not a directory"
        in done.stderr
    )
    assert "CHOSEN" not in done.stdout


def test_what_names_no_file_names_what_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(endings, "_is_full", lambda place: place == Path("/full"))
    assert endings.words_of(error, (Path("/full"), Path("/"))).startswith("/full: No space left on device\n")
    assert endings.words_of(error, (Path("/"),)) == ""
    assert endings.words_of(OSError(errno.EBADF, "Bad file descriptor"), (Path("/full"),)) == ""


def test_a_file_system_that_does_not_say_how_large_it_is_is_not_called_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for blocks, full in ((1, True), (0, False)):
        told = SimpleNamespace(f_blocks=blocks, f_bavail=0, f_frsize=0)
        monkeypatch.setattr(os, "statvfs", lambda path, told=told: told)
        assert endings._is_full(tmp_path) is full
