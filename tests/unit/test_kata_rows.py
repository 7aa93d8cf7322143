"""The rows of `scenarios/test_kata_config.py` go red where a file is not what it should be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCENARIOS = Path(__file__).parents[2] / "scenarios"
# each gets the file of one whose row is another
SWAPPED = {
    "1.0.0-qemu": "1.12.0-fc",
    "1.12.0-qemu": "1.12.0-fc",
    "2.0.0-qemu": "3.10.0-dragonball",
    "3.10.0-dragonball": "3.2.0-qemu",
    "4.1.0-qemu-runtime-rs": "4.1.0-remote",
}


def rows(folder: Path) -> tuple[int, str]:
    argv = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_kata_config.py"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_rows(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    shutil.copy(SCENARIOS / "test_kata_config.py", tmp_path)
    shutil.copytree(SCENARIOS / "kata_config", tmp_path / "kata_config")
    code, said = rows(tmp_path)
    assert code == 0, said
    assert f"{len(SWAPPED)} passed" in said
    for name, other in SWAPPED.items():
        shutil.copy(SCENARIOS / f"kata_config/{other}.toml", tmp_path / f"kata_config/{name}.toml")
    code, said = rows(tmp_path)
    assert code == 1
    assert f"{len(SWAPPED)} failed" in said
    assert "passed" not in said.splitlines()[-1]
