"""What the claim about Kata's version and its use_vsock has come to, release by release; boots no VM.

The files in `kata_config` are the releases' own templates, filled in and shortened.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.cli.main import main

FILES = Path(__file__).parent / "kata_config"

ROWS = {
    # the page's claim holds for 1.x: too old, then off by default, then as the page says
    "1.0.0-qemu": {"kata-version": "missing", "kata-config": "ok", "kata-qemu": "missing"},
    "1.12.0-qemu": {"kata-version": "ok", "kata-config": "ok", "kata-qemu": "missing"},
    # from 2.0 on there is nothing to set
    "2.0.0-qemu": {"kata-version": "ok", "kata-config": "ok", "kata-qemu": "ok"},
    "3.10.0-dragonball": {"kata-version": "ok", "kata-config": "ok", "kata-dragonball": "ok"},
    "4.1.0-qemu-runtime-rs": {"kata-version": "ok", "kata-config": "ok", "kata-qemu": "ok"},
}
SAYS = {
    "1.0.0-qemu": "vsock came with 1.2.0",
    "1.12.0-qemu": "use_vsock is commented out, and its default is false",
    "2.0.0-qemu": "always vhost-vsock",
    "3.10.0-dragonball": "hybrid vsock: the host's end is a Unix socket",
    "4.1.0-qemu-runtime-rs": "always vhost-vsock",
}
MENDED = {"1.12.0-qemu": "use_vsock = true"}
"""The row that a command mends, and what its file says then."""


def doctor(file: Path, version: str, capsys: pytest.CaptureFixture[str]) -> Mapping[str, dict[str, str]]:
    """What `vsock-harness doctor --kata FILE` finds of Kata, by ability."""
    main(["doctor", "--json", "--kata", str(file), "--kata-version", version, "--file-only"])
    rows = json.loads(capsys.readouterr().out)["findings"]
    return {row["ability"]: row for row in rows}


@pytest.mark.claim("kata-config")
@pytest.mark.parametrize("name", ROWS)
def test_doctor_kata(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """What `doctor --kata` says of a release's own configuration file."""
    expected, file, version = ROWS[name], tmp_path / "configuration.toml", name.split("-")[0]
    record_property("expected", f"{', '.join(map(' '.join, expected.items()))}: {SAYS[name]}")
    shutil.copyfile(FILES / f"{name}.toml", file)
    found = doctor(file, version, capsys)
    seen = {ability: found[ability]["verdict"] for ability in expected}
    assert seen == expected
    said = [row["seen"] for row in found.values() if SAYS[name] in row["seen"]]
    assert said, found
    words = said[0].replace(f"{file}:", "line ", 1)
    if name in MENDED:
        mend = found["kata-qemu"]["mend"].removeprefix("sudo ")
        subprocess.run(["sh", "-c", mend], check=True)
        assert MENDED[name] in file.read_text().splitlines()
        after = doctor(file, version, capsys)["kata-qemu"]
        assert after["verdict"] == "ok"
        words += "; mended: " + after["seen"].replace(f"{file}:", "line ", 1)
    record_property("seen", words)
