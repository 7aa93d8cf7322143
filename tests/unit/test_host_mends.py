"""The running of a mending step: by sudo if need be, and what it said. Nothing runs as root."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.host import mends
from harness.host.finding import Step
from harness.host.mends import Ran

LOAD = Step(("modprobe", "-i", "vhost_vsock"))


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("uid", "terminal", "by"), [(0, True, ""), (1000, True, "--"), (1000, False, "-n --")]
)
def test_a_step_is_run_as_root(
    tmp_path: Path, uid: int, terminal: bool, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "modprobe", 'echo "loaded $@"; echo and warned >&2; exit 3')
    program(tmp_path / "sudo", 'echo "sudo $1 $2"; while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    ran = mends.run(Step(("modprobe", "x")), terminal=terminal)
    assert ran.code == 3
    lines = ran.output.splitlines()
    assert lines[-2:] == ["loaded x", "and warned"]
    assert lines[:-2] == ([f"sudo {by} modprobe".replace("-n -- modprobe", "-n --")] if by else [])


def test_where_there_is_no_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mends, "PROGRAMS", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ran = mends.run(LOAD, terminal=True)
    assert ran.code
    assert "as root: modprobe -i vhost_vsock" in ran.output
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert mends.run(LOAD, terminal=True) == Ran(127, "modprobe: No such file or directory")
