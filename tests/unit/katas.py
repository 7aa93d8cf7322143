"""Kata's configuration files, unpacked on hosts that have nothing else of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.host import probe_kata
from harness.host.finding import Finding, Verdict
from harness.host.kata import Host, Release

FILES = Path(__file__).parents[2] / "scenarios/kata_config"
SWITCH = ("hypervisor", "qemu", "use_vsock")
QEMU_1 = "1.12.0-qemu.toml"
QEMU_2 = "2.0.0-qemu.toml"
RUST = "4.1.0-qemu-runtime-rs.toml"


def nothing(argv: Sequence[str]) -> str:
    raise AssertionError(f"nothing is installed, but {argv} was run")


def bare(root: Path) -> Host:
    """A host without Kata."""
    return Host({}, root / "host", nothing)


def put(root: Path, name: str, text: str) -> Path:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def changed(name: str, old: str = "", new: str = "") -> str:
    text = (FILES / name).read_text()
    assert old in text
    return text.replace(old, new, 1)


def look(root: Path, text: str, version: str = "") -> dict[str, Finding]:
    """The findings on a file of this text."""
    release = Release.parse(version, "--kata-version") if version else None
    examined = probe_kata.examine(bare(root), put(root, "configuration.toml", text), release)
    return {finding.ability: finding for finding in examined.findings}


def number(text: str, line: str) -> int:
    return text.split("\n").index(line) + 1


OK, UNUSED, MISSING, UNSURE, BROKEN = (
    Verdict.OK,
    Verdict.NOT_NEEDED,
    Verdict.MISSING,
    Verdict.UNKNOWN,
    Verdict.BROKEN,
)


def mended(finding: Finding, root: Path) -> dict[str, Finding]:
    """The findings once the finding's command has been run."""
    assert finding.mend
    subprocess.run(["sh", "-c", re.sub(r"\bsudo ", "", finding.mend)], check=True)
    return look(root, (root / "configuration.toml").read_text())


RENDERED = changed(QEMU_1)
