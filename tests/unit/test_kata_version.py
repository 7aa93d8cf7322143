"""Kata's version: who is asked for it, and how it is read."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.host import probe_kata
from harness.host.kata import GO_PATHS, RUST_PATHS, Host, Release, of_clone
from tests.unit.katas import OK, QEMU_1, RENDERED, bare, changed, number, put


def program(root: Path, path: str, prints: dict[str, str]) -> Path:
    """An executable that prints by its first argument, and fails for others."""
    cases = "".join(f"{option}) printf %s {shlex.quote(text)} ;;\n" for option, text in prints.items())
    made = put(root, path, f'#!/bin/sh\ncase "$1" in\n{cases}*) exit 1 ;;\nesac\n')
    made.chmod(0o755)
    return made


RUNTIME = "kata-runtime  : {}\n   commit   : 123abc\n   OCI specs: 1.0.2-dev\n"
GO_SHIM = (
    'Kata Containers containerd shim (Golang): id: "io.containerd.kata.v2", version: {}, commit: 1a-dirty\n'
)
RUST_SHIM = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: {}, commit: 1a\n"


@pytest.mark.parametrize(
    ("path", "prints", "version"),
    [
        ("/usr/bin/kata-runtime", RUNTIME, "1.12.0"),
        ("/usr/local/bin/kata-runtime", RUNTIME, "1.13.0-alpha0"),
        ("/opt/kata/bin/containerd-shim-kata-v2", GO_SHIM, "3.2.0"),
        ("/opt/kata/runtime-rs/bin/containerd-shim-kata-v2", RUST_SHIM, "4.1.0"),
        ("/usr/bin/containerd-shim-kata-v2", GO_SHIM.replace(" (Golang)", ""), "1.5.0"),
    ],
)
def test_what_is_installed_says_its_version(tmp_path: Path, path: str, prints: str, version: str) -> None:
    made = program(tmp_path, path, {"--version": prints.format(version)})
    put(tmp_path, GO_PATHS[0], RENDERED)
    found = probe_kata.examine(Host({"PATH": "/usr/bin"}, tmp_path)).findings[0]
    assert found.verdict is OK
    assert f"Kata Containers {version} ({made} --version)" in found.seen


def test_of_two_runtimes_the_files_own_is_asked(tmp_path: Path) -> None:
    go = program(tmp_path, "/opt/kata/bin/containerd-shim-kata-v2", {"--version": GO_SHIM.format("3.2.0")})
    rust = "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"
    program(tmp_path, rust, {"--version": RUST_SHIM.format("3.3.0")})
    host = Host({}, tmp_path)
    for path, version in ((GO_PATHS[0], "3.2.0"), (RUST_PATHS[0], "3.3.0")):
        release = host.installed(tmp_path / path.lstrip("/"))
        assert release
        assert release.text == version
    go.write_text("#!/bin/sh\nexit 1\n")  # what doesn't run is passed over
    release = host.installed()
    assert release
    assert release.text == "3.3.0"


def test_kata_runtime_is_asked_where_it_looks(tmp_path: Path) -> None:
    prints = {"--kata-show-default-config-paths": "/etc/mine.toml\n/opt/mine.toml\n", "--version": "?"}
    program(tmp_path, "/usr/bin/kata-runtime", prints)
    put(tmp_path, GO_PATHS[0], RENDERED)
    mine = put(tmp_path, "/opt/mine.toml", RENDERED)
    found = Host({}, tmp_path).find()
    assert found.file == mine
    assert found.absent == (tmp_path / "etc/mine.toml",)
    assert found.others == (tmp_path / GO_PATHS[0].lstrip("/"),)


@pytest.mark.parametrize("tree", ["src/runtime/config", "virtcontainers"])
def test_a_clone_says_its_version_and_its_templates_are_read(tmp_path: Path, tree: str) -> None:
    (tmp_path / tree).mkdir(parents=True)
    put(tmp_path, "VERSION", "1.12.0\n")
    text = changed(QEMU_1, "[proxy.kata]", "[proxy.@PROJECT_TYPE@]")
    text = text.replace("sandbox_cgroup_only=false", "sandbox_cgroup_only=@DEFSANDBOXCGROUPONLY@\n\n")
    text = text.replace("enable_annotations = []", "enable_annotations = @DEFENABLEANNOTATIONS@")
    template = put(tmp_path, "config/configuration-qemu.toml.in", text)
    version, config, qemu, proxy = probe_kata.examine(bare(tmp_path), template).findings
    assert f"1.12.0 (VERSION of the source tree {tmp_path})" in version.seen
    assert (config.verdict, proxy.verdict) == (OK, OK)
    assert f"{template}:{number(text, '#use_vsock = true')}: use_vsock is commented out" in qemu.seen
    assert f"{template}:{number(text, '[proxy.@PROJECT_TYPE@]')}: [proxy.kata]" in proxy.seen


def test_elsewhere_there_is_no_clone(tmp_path: Path) -> None:
    put(tmp_path, "VERSION", "1.12.0\n")
    assert of_clone(put(tmp_path, "configuration.toml", "")) is None


@pytest.mark.parametrize(
    ("text", "rules", "vsock"),
    [
        ("1.1.0", 1, False),
        ("1.2.0", 1, True),
        ("1.10", 1, True),
        ("2.0.0-alpha2", 1, True),
        ("2.0.0-alpha3", 2, True),
        ("2.1-alpha0", 2, True),
        ("3.2.0", 3, True),
        ("4.1.0", 3, True),
    ],
)
def test_versions(text: str, rules: int, vsock: bool) -> None:
    release = Release.parse(text, "x")
    assert release
    assert (release.rules, release.vsock) == (rules, vsock)


@pytest.mark.parametrize("text", ["", "1", "3.x", "v3.2", "1.2.3.4"])
def test_what_is_no_version(text: str) -> None:
    assert Release.parse(text, "x") is None
