"""The command in odd surroundings: terminals without our letters, file names that are none, other ways in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.host import mends, paths
from tests.unit.test_plugin import SCENARIO


def command(*words: str, module: str = "harness.cli", **environ: str) -> tuple[int, bytes, bytes]:
    argv = [sys.executable, "-m", module, *words]
    done = subprocess.run(argv, env={**os.environ, **environ}, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", ["harness.cli", "harness.cli.main"])
def test_the_module_is_the_command(module: str) -> None:
    code, out, _ = command("--version", module=module)
    assert (code, out[:14]) == (0, b"vsock-harness ")


def test_a_terminal_without_our_letters_gets_them_otherwise() -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    code, out, err = command("schema", **ascii_only)
    assert (code, err) == (0, b"")
    assert json.loads(out) == json.loads(command("schema", PYTHONIOENCODING="utf-8")[1])
    code, _, err = command("run", "/nowhere/ü", **ascii_only)
    assert code == 4
    assert rb"/nowhere/\xfc: no such file" in err


def test_a_file_whose_name_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_text(SCENARIO)
    code, out, err = command("run", "--list", str(tmp_path))
    assert code != 0
    assert b"the name is not UTF-8" in out + err
    assert b"Traceback" not in out + err
    assert b"INTERNALERROR" not in out + err


def test_another_boot_is_told_the_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--boot", "warm"]) == 4
    assert "'warm' is none of: clone, cold\n" in capsys.readouterr().err


def test_an_empty_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert paths.cache_root() != Path("/.cache/vsock-harness")


def test_a_relative_cache_folder_is_said_to_be_ignored_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        paths.cache_root({"XDG_CACHE_HOME": "here/and/there", "HOME": "/h"})
    assert caplog.messages == ["XDG_CACHE_HOME=here/and/there is ignored: it is not an absolute path"]


@pytest.mark.parametrize(("sudo", "typed"), [("/bin/sudo", "sudo a b"), (None, "su -c 'a b'")])
def test_who_has_no_sudo_is_not_told_to_use_it(
    sudo: str | None, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda program: sudo)
    assert mends.as_root("a b") == typed


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ("configuration-qemu.toml", "configuration-clh.toml", "other.toml"),
            "a folder; one FILE is wanted\n"
            "hint: vsock-harness doctor --kata {}/configuration-clh.toml; also there: configuration-qemu",
        ),
        (("1.0.0.toml",), "a folder; one FILE is wanted\nhint: vsock-harness doctor --kata {}/1.0.0.toml\n"),
        ((), "a folder, and no configuration*.toml is in it\nhint: Kata's is called configuration.toml; "),
    ],
)
def test_a_folder_is_no_kata_configuration(
    files: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert main(["doctor", "--kata", str(tmp_path), "--file-only"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vsock-harness: error: --kata {tmp_path}: {told.format(tmp_path)}")
