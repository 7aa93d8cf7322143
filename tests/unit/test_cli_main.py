"""The command itself: help, mistakes, errors, exit codes, pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.cli import schema
from harness.cli.main import COMMANDS, main
from harness.host.pipes import PIPE_CLOSED
from harness.model.errors import HarnessError, HostUnfit, InfrastructureError, SystemFailure, UsageError

COMMAND = [sys.executable, "-c", "from harness.cli.main import entry; entry()"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that isn't found must not become a run, which boots VMs."""

    def become(program: str, argv: list[str]) -> None:
        raise AssertionError(f"became {argv}")

    monkeypatch.setattr(os, "execv", become)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert not err
    for name, text in COMMANDS.items():
        assert f"\n  {name} " in out
        assert text.split()[0] in out
    assert "examples:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: vsock-harness {name}" in capsys.readouterr().out


def test_nothing_said_is_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "commands:" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"vsock-harness 0\.\S+( \(commit [0-9a-f]{12}\+?\))?\n", out)


def test_help_breaks_no_name_and_lists_commands_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main(["run", "--help"])
    assert "serial-\n" not in capsys.readouterr().out
    for argv in ([], ["lab"], ["images"], ["results"]):
        main([*argv, "--help"])
        out = capsys.readouterr().out
        assert re.search(r"^(commands|actions.*):\n  [a-z]+ +\S", out, re.MULTILINE), out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["--verison"], "did you mean '--version'?"),
        (["doctor", "--jsn"], "unknown option --jsn; did you mean '--json'?"),
        (["doctor", "--js"], "unknown option --js; did you mean '--json'?"),
        (["images", "bild"], "did you mean 'build'?"),
        (["images", "build", "--forec"], "did you mean '--force'?"),
        (
            ["images", "prune", "--dryrun"],
            "did you mean '--dry-run'?\nhint: vsock-harness images prune --help",
        ),
        (["images", "prune", "--dry"], "did you mean '--dry-run'?"),
        (["lab", "shel"], "did you mean 'shell'?"),
        (["schema", "x"], "unexpected argument 'x'"),
        (["doctor", "--", "x"], "doctor takes nothing behind --"),
        (["run", "-n", "0"], "-n: '0' is neither a number from 1 nor 'auto'"),
        (["run", "-n", "-1"], "-n: '-1' is neither a number from 1 nor 'auto'"),
        (["run", "-n", "autoo"], "-n: 'autoo' is neither a number from 1 nor 'auto'"),
        (["run", "--results", ""], "--results: it is empty; leave the option out"),
        (["run", "--guest="], "--guest: it is empty; leave the option out"),
        (["run", ""], "no file or folder is named by ''"),
        (["run", "-q", "-v"], "not allowed with"),
    ],
)
def test_mistakes_are_two_lines(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == (4 if argv[0] == "run" else 2)  # 2 is pytest's of an interrupted run
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    first, second = err.splitlines()
    assert first.startswith("vsock-harness: error: ")
    assert second.startswith("hint: vsock-harness")
    assert second.endswith("--help")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("what", hint="do", detail="evidence"), 2),
        (HostUnfit("what", ability="kvm", hint="do", detail="evidence"), 2),
        (InfrastructureError("what", hint="do", detail="evidence"), 1),
        (SystemFailure("what", hint="do", detail="evidence"), 1),
    ],
)
def test_errors_are_lines_and_a_code(
    error: HarnessError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(schema, "main", fail)
    assert main(["schema"]) == code
    assert capsys.readouterr().err == "vsock-harness: error: what\nevidence\nhint: do\n"


def test_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(schema, "main", fail)
    assert main(["schema"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "vsock-harness: interrupted\n"


def test_file_trouble_is_a_line_and_a_bug_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(schema, "main", fail)
    error = PermissionError(13, "Permission denied", "/some/file")
    assert main(["schema"]) == 1
    assert capsys.readouterr().err == "vsock-harness: error: /some/file: Permission denied\n"
    error = PermissionError(13, "Permission denied")
    with pytest.raises(PermissionError):
        main(["schema"])


def test_schema_is_that_of_the_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["title"] == "vsock-harness scenario"
    assert out == (ROOT / "scenarios/scenario.schema.json").read_text()


def test_reader_that_leaves_is_no_traceback() -> None:
    with subprocess.Popen([*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == PIPE_CLOSED


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from harness.cli.main import main; main(['--help'])\n"
        "print(*sorted(name for name in sys.modules if name.startswith('harness.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = set(done.stderr.split()) - {"harness.cli", "harness.cli.main", "harness.cli.parsing"}
    light = {"harness.host", "harness.host.interrupts", "harness.host.pipes"}
    assert heavy - light == {"harness.model", "harness.model.errors"}
