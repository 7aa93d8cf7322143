"""Kata's configuration files: odd ones, and the places where they are looked for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.host import probe_kata
from harness.host.finding import Verdict
from harness.host.kata import GO_PATHS, RUST_PATHS, Host, Release
from harness.host.kata_toml import BadToml, Document
from tests.unit.katas import (
    BROKEN,
    MISSING,
    OK,
    QEMU_1,
    QEMU_2,
    RENDERED,
    RUST,
    UNSURE,
    bare,
    changed,
    look,
    nothing,
    put,
)


@pytest.mark.parametrize(
    ("text", "ability", "verdict", "says"),
    [
        (
            changed(QEMU_2, "hypervisor.qemu", "hypervisor.kemu"),
            "kata-kemu",
            UNSURE,
            "is none that is known: acrn, ",
        ),
        ("[agent.kata]\n#debug_console_enabled = true\n", "kata-config", UNSURE, "no [hypervisor.*]"),
        (
            "hypervisor.qemu = 3\n",
            "kata-qemu",
            BROKEN,
            "configuration.toml:1: hypervisor.qemu must be a table",
        ),
        ("[hypervisor.qemu]\n", "kata-qemu", UNSURE, "depends on Kata's version"),
        ("[hypervisor.qemu]\n", "kata-version", UNSURE, "give --kata-version"),
        ("[hypervisor.qemu]\n[proxy.kata]\n", "kata-version", UNSURE, "1.x (deduced from proxy.kata at "),
    ],
)
def test_files_that_are_odd(tmp_path: Path, text: str, ability: str, verdict: Verdict, says: str) -> None:
    found = look(tmp_path, text)[ability]
    assert found.verdict is verdict
    assert says in found.seen


# files that are no TOML


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("#use_vsock = true", "use_vsock = yes", "20:13: Invalid value: use_vsock = yes; true and false are"),
        ("#use_vsock = true", "use_vsock = True", "20:13: Invalid value: use_vsock = True; true and false"),
        ("#use_vsock = true", "use_vsock", "20:10: Expected '=' after a key in a key/value pair: use_vsock"),
        ("[proxy.kata]", "[proxy.kata", "28:12: Expected ']' at the end of a table declaration: [proxy.kata"),
        ("[shim.kata]", "[proxy.kata]", "32:12: Cannot declare ('proxy', 'kata') twice: [proxy.kata]"),
        ("experimental=[]", "experimental=[", "50:15: Invalid value: experimental=["),
    ],
)
def test_what_is_no_toml_is_named_by_file_line_and_column(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    found = look(tmp_path, changed(QEMU_1, old, new))
    assert list(found) == ["kata-config"]
    assert found["kata-config"].verdict is BROKEN
    assert f"{tmp_path}/configuration.toml:{says}" in found["kata-config"].seen
    assert "Kata refuses the whole configuration" in found["kata-config"].seen


def test_a_drop_in_that_is_no_toml_is_named(tmp_path: Path) -> None:
    put(tmp_path, "config.d/10.toml", "[hypervisor.qemu\n")
    found = look(tmp_path, changed(QEMU_2))["kata-config"]
    assert found.verdict is BROKEN
    assert f"{tmp_path}/config.d/10.toml:1:17: Expected ']'" in found.seen


def test_a_folder_among_the_drop_ins_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.d/sub").mkdir(parents=True)
    found = look(tmp_path, changed(QEMU_2))["kata-config"]
    assert found.verdict is BROKEN
    assert f"{tmp_path}/config.d/sub: Is a directory" in found.seen


def test_what_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"# a\n# b\xff\n")
    with pytest.raises(BadToml, match=r"x\.toml:2: byte 0xff is not UTF-8"):
        Document.load(path)


def test_what_this_user_may_not_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    path = put(tmp_path, "x.toml", "")
    monkeypatch.setattr(Path, "read_bytes", denied)
    (found,) = probe_kata.examine(bare(tmp_path), path).findings
    assert found.verdict is UNSURE
    assert "this user may not read it" in found.seen
    assert "doctor --kata" in found.mend


# where Kata is, and which


@pytest.mark.parametrize("at", range(len(GO_PATHS + RUST_PATHS)))
def test_the_first_place_that_has_a_file_is_taken(tmp_path: Path, at: int) -> None:
    places = [tmp_path / path.lstrip("/") for path in GO_PATHS + RUST_PATHS]
    for place in places[at:]:
        put(tmp_path, str(place.relative_to(tmp_path)), RENDERED)
    found = Host({}, tmp_path, nothing).find()
    assert found.file == places[at]
    assert found.absent == tuple(places[:at])
    assert found.others == tuple(places[at + 1 :])
    seen = probe_kata.examine(Host({}, tmp_path, nothing)).findings[1].seen
    assert all(str(place) in seen for place in places)


def test_nothing_at_all_is_said_with_all_places(tmp_path: Path) -> None:
    examined = probe_kata.examine(Host({}, tmp_path, nothing))
    version, config = examined.findings
    assert (version.verdict, config.verdict) == (MISSING, MISSING)
    assert all(path in config.seen for path in GO_PATHS + RUST_PATHS)
    assert not examined.vhost
    assert "vsock-harness doctor --kata FILE" in config.mend


def test_the_variable_comes_first(tmp_path: Path) -> None:
    put(tmp_path, GO_PATHS[0], RENDERED)
    named = put(tmp_path, "mine.toml", RENDERED)
    config = probe_kata.examine(Host({"KATA_CONF_FILE": str(named)}, tmp_path, nothing)).findings[1]
    assert config.seen.startswith(f"{named} (KATA_CONF_FILE names {named})")
    gone = probe_kata.examine(Host({"KATA_CONF_FILE": "/gone"}, tmp_path, nothing)).findings[1]
    assert gone.verdict is MISSING
    assert "KATA_CONF_FILE names /gone" in gone.seen


@pytest.mark.parametrize(("version", "verdict"), [("3.32.0", OK), ("4.0.0", BROKEN)])
def test_since_4_0_the_variable_may_name_default_places_only(
    tmp_path: Path, version: str, verdict: Verdict
) -> None:
    named = put(tmp_path, "mine.toml", changed(RUST))
    release = Release.parse(version, "x")
    host = Host({"KATA_CONF_FILE": str(named)}, tmp_path, nothing)
    assert probe_kata.examine(host, None, release).findings[1].verdict is verdict
    default = put(tmp_path, RUST_PATHS[0], changed(RUST))
    host = Host({"KATA_CONF_FILE": str(default)}, tmp_path, nothing)
    assert probe_kata.examine(host, None, release).findings[1].verdict is OK


def test_of_a_packages_file_a_copy_is_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = put(tmp_path, GO_PATHS[1], RENDERED)
    host = Host({}, tmp_path, nothing)
    found = probe_kata.examine(host).findings[2]
    assert found.mend.count(str(tmp_path / GO_PATHS[0].lstrip("/"))) == 2
    subprocess.run(["sh", "-c", re.sub(r"\bsudo ", "", found.mend)], check=True)
    assert original.read_text() == RENDERED
    after = probe_kata.examine(host).findings
    assert after[1].seen.startswith(str(tmp_path / GO_PATHS[0].lstrip("/")))
    assert after[2].verdict is OK
