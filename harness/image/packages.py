"""Third-party Python packages for workers, for a Python version that need not be this one."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from harness.image import tree


def install(requirements: Path, python: str, site: Path) -> None:
    """Unpack the pinned wheels, checked by hash, into `site` for CPython `python` ("3.13") on x86-64 Linux.

    :raise InfrastructureError: when pip can't get them.
    """
    argv = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    argv += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
    argv += [f"--python-version={python}", "--platform=manylinux_2_28_x86_64"]
    argv += ["--platform=manylinux2014_x86_64", f"--target={site}", "-r", str(requirements)]
    tree.run(argv, f"fetching the workers' Python packages for {python}")


def identity(requirements: Path) -> str:
    """12 hex digits that change whenever a pin does."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
