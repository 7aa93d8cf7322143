"""Go programs, compiled by the toolchain of an unpacked Debian tree with the libraries packaged there."""

from __future__ import annotations

import os
from pathlib import Path

from harness.image import tree

_GOROOT = "usr/lib/go"
_GOPATH = "usr/share/gocode"
"""Where Debian's golang-*-dev packages put their sources."""


def compile_program(root: Path, sources: list[Path], target: Path, scratch: Path) -> None:
    """Write the static program that `sources`, the files of one package main, make.

    Debian's ``go`` is static itself, so it runs from the tree. It fetches nothing (no modules), and writes
    only below `scratch`. The same sources and packages give the same bytes, wherever they lie.

    :raise InfrastructureError: with the compiler's words.
    """
    goroot = (root / _GOROOT).resolve()
    home = scratch / "go-home"
    _without_telemetry(home)
    env = {
        "PATH": os.defpath,
        "GOROOT": str(goroot),
        "GOPATH": str(root / _GOPATH),
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GOENV": "off",
        "GOTELEMETRY": "off",
        "GOCACHE": str(scratch / "go-cache"),
        "GOTMPDIR": str(scratch),
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": "amd64",
    }
    argv = [str(goroot / "bin/go"), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="]
    tree.run([*argv, "-o", str(target), *map(str, sources)], f"compiling {target.name}", env=env)


def _without_telemetry(home: Path) -> None:
    """Keep ``go`` from counting its runs in the user's configuration folder, and from leaving a process that
    outlives it. The mode is a file there (golang.org/x/telemetry, internal/telemetry/dir.go); ``go env``
    shows it as GOTELEMETRY.
    """
    mode = home / "go" / "telemetry" / "mode"
    mode.parent.mkdir(parents=True)
    mode.write_text("off")
