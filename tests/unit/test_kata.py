"""Kata's releases and their rules: its files in `scenarios/kata_config`, and mutations of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.host import probe_kata
from harness.host.finding import Verdict
from harness.host.kata import Release
from harness.host.kata_toml import Document
from tests.unit.katas import (
    BROKEN,
    FILES,
    MISSING,
    OK,
    QEMU_1,
    QEMU_2,
    RUST,
    SWITCH,
    UNSURE,
    UNUSED,
    bare,
    changed,
    look,
    mended,
    number,
    put,
)

RELEASES: list[tuple[str, str, dict[str, Verdict], bool]] = [
    ("1.0.0-qemu.toml", "1.x", {"version": UNSURE, "qemu": MISSING, "proxy": OK}, True),
    (QEMU_1, "1.x, since 1.2.0", {"version": OK, "qemu": MISSING, "proxy": OK}, True),
    ("1.12.0-fc.toml", "1.x, since 1.2.0", {"version": OK, "firecracker": OK}, True),
    ("1.12.0-clh.toml", "1.x", {"version": OK, "clh": OK, "proxy": UNUSED}, False),
    (QEMU_2, "2.0 or later", {"version": OK, "qemu": OK}, True),
    ("2.5.2-clh.toml", "2.0 or later", {"version": OK, "clh": OK}, False),
    ("3.2.0-qemu.toml", "2.0 or later", {"version": OK, "qemu": OK}, True),
    ("3.10.0-dragonball.toml", "3.0 or later", {"version": OK, "dragonball": OK}, False),
    (RUST, "3.0 or later", {"version": OK, "qemu": OK}, True),
    ("4.1.0-remote.toml", "3.0 or later", {"version": OK, "remote": UNUSED}, False),
]


@pytest.mark.parametrize(("name", "rules", "verdicts", "vhost"), RELEASES)
def test_each_release_as_it_comes(
    tmp_path: Path, name: str, rules: str, verdicts: dict[str, Verdict], vhost: bool
) -> None:
    examined = probe_kata.examine(bare(tmp_path), FILES / name)
    found = {finding.ability.removeprefix("kata-"): finding for finding in examined.findings}
    assert {ability: finding.verdict for ability, finding in found.items()} == {"config": OK, **verdicts}
    assert f"Kata Containers {rules} (deduced from " in found["version"].seen
    assert f"{FILES / name}:" in found["version"].seen
    assert examined.vhost == vhost
    # what is deduced comes to the same as what is known
    version = name.split("-")[0]
    known = probe_kata.examine(bare(tmp_path), FILES / name, Release.parse(version, "x")).findings
    expected = MISSING if version == "1.0.0" else OK
    assert [finding.verdict for finding in known] == [
        expected,
        *[one.verdict for one in examined.findings[1:]],
    ]


def test_every_file_is_in_the_table() -> None:
    assert {row[0] for row in RELEASES} == {path.name for path in FILES.iterdir()}


@pytest.mark.parametrize(
    ("text", "says", "verdict"),
    [
        (changed(QEMU_1), "20: use_vsock is commented out, and its default is false", MISSING),
        (changed(QEMU_1, "#use_vsock = true", "#use_vsock=false"), "20: use_vsock is commented out", MISSING),
        (
            changed(QEMU_1, "#use_vsock = true", "# use_vsock = true"),
            "20: use_vsock is commented out",
            MISSING,
        ),
        (changed(QEMU_1, "#use_vsock = true", "use_vsock = false"), "20: use_vsock = false", MISSING),
        (changed(QEMU_1, "#use_vsock = true", "  use_vsock=false # no"), "20: use_vsock = false", MISSING),
        (changed(QEMU_1, "#use_vsock = true\n"), "4: no use_vsock, and its default is false", MISSING),
        (
            changed(QEMU_1, "#use_vsock = true", 'use_vsock = "yes"'),
            '20: use_vsock = "yes" is a string; true and false are allowed',
            BROKEN,
        ),
        (
            changed(QEMU_1, "#use_vsock = true", "use_vsock = 1"),
            "20: use_vsock = 1 is a number; true",
            BROKEN,
        ),
        (
            changed(QEMU_1, "#use_vsock = true", "use_vsock = [true]"),
            "20: use_vsock = [True] is no boolean",
            BROKEN,
        ),
    ],
)
def test_use_vsock_that_is_not_true_is_mended_by_its_command(
    tmp_path: Path, text: str, says: str, verdict: Verdict
) -> None:
    before = look(tmp_path, text)
    assert ("kata-proxy" in before) == (verdict is MISSING)  # of what is refused as a whole nothing starts
    found = before["kata-qemu"]
    assert found.verdict is verdict
    assert f"{tmp_path}/configuration.toml:{says}" in found.seen
    assert not found.fix  # an edit is a person's to make
    after = mended(found, tmp_path)
    assert after["kata-qemu"].verdict is OK
    assert "use_vsock = true: QEMU, vhost-vsock, no proxy" in after["kata-qemu"].seen
    assert after["kata-proxy"].verdict is UNUSED
    lines = (tmp_path / "configuration.toml").read_text().split("\n")
    differ = [line for line in lines if line not in text.split("\n")]
    assert len(differ) == 1
    assert re.match(r"\s*use_vsock ?= ?true", differ[0])


def test_a_command_changes_nothing_once_the_line_has_moved(tmp_path: Path) -> None:
    found = look(tmp_path, changed(QEMU_1))["kata-qemu"]
    text = "# a new first line\n" + changed(QEMU_1)
    put(tmp_path, "configuration.toml", text)
    mended(found, tmp_path)
    assert (tmp_path / "configuration.toml").read_text() == text


def test_names_with_blanks_and_quotes_survive_the_shell(tmp_path: Path) -> None:
    root = tmp_path / "it's a folder"
    assert mended(look(root, changed(QEMU_1))["kata-qemu"], root)["kata-qemu"].verdict is OK


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('note = """\n[hypervisor.qemu]\nuse_vsock = true\n"""\n[hypervisor.qemu]\nuse_vsock = false\n', 6),
        ("[hypervisor.clh]\nuse_vsock = false\n[hypervisor.qemu]\nuse_vsock = false\n", 4),
        ("[ hypervisor . 'qemu' ]\n'use_vsock' = false\n", 2),
        ("[hypervisor]\nqemu = {use_vsock = false, path = ''}\n", 2),
        ("hypervisor.qemu.use_vsock = false\n", 1),
        ("# use_vsock = false\n[hypervisor.qemu]\nuse_vsock_not = true\nuse_vsock = false\n", 4),
        ("[hypervisor.qemu]\r\nuse_vsock = false\r\n", 2),
    ],
)
def test_the_line_and_its_edit_whatever_the_style(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode())
    document = Document.load(path)
    assert document.line(*SWITCH) == line
    edit = document.switched_on(*SWITCH)
    assert edit
    assert edit.line == line
    subprocess.run(["sh", "-c", edit.command(path)], check=True)
    assert Document.load(path).get(*SWITCH) is True


def test_a_comment_of_another_table_is_not_taken_for_it(tmp_path: Path) -> None:
    text = "[hypervisor.qemu]\npath = 'x'\n[agent.kata]\n#use_vsock = true\n"
    document = Document.load(put(tmp_path, "x.toml", text))
    assert document.commented(*SWITCH) == 0
    assert document.switched_on(*SWITCH) == (1, "use_vsock = true", "")


def test_a_proxy_beside_vsock_is_kept_for_falling_back(tmp_path: Path) -> None:
    text = changed(QEMU_1, "#use_vsock", "use_vsock")
    found = look(tmp_path, text)["kata-proxy"]
    assert found.verdict is UNUSED
    assert (
        f":{number(text, '[proxy.kata]')}: [proxy.kata] /usr/libexec/kata-containers/kata-proxy" in found.seen
    )
    assert "not started with vsock; leave it" in found.seen


def test_before_1_2_0_no_edit_helps(tmp_path: Path) -> None:
    found = look(tmp_path, changed(QEMU_1, "#use_vsock", "use_vsock"), "1.1.0")
    assert found["kata-version"].verdict is MISSING
    assert "vsock came with 1.2.0" in found["kata-version"].seen
    assert found["kata-version"].mend == found["kata-qemu"].mend
    assert found["kata-qemu"].mend.startswith("install Kata Containers 2.0 or later")
    assert found["kata-qemu"].verdict is MISSING


def test_1_x_knows_no_drop_ins(tmp_path: Path) -> None:
    put(tmp_path, "config.d/10.toml", "[hypervisor.qemu]\nuse_vsock = true\n")
    assert look(tmp_path, changed(QEMU_1))["kata-qemu"].verdict is MISSING


@pytest.mark.parametrize("name", ["1.12.0-fc.toml", "1.12.0-clh.toml"])
def test_hybrid_vsock_does_not_ask_for_use_vsock(tmp_path: Path, name: str) -> None:
    section = "[hypervisor.firecracker]" if "fc" in name else "[hypervisor.clh]"
    text = changed(name).replace("use_vsock = true", "").replace(section, f"{section}\nuse_vsock = false")
    ability = "kata-firecracker" if "fc" in name else "kata-clh"
    found = look(tmp_path, text)[ability]
    assert found.verdict is OK
    assert "CONNECT PORT" in found.seen
    assert "use_vsock = false is ignored" in found.seen
    broken = look(tmp_path, text.replace("use_vsock = false", "use_vsock = 'no'"))[ability]
    assert broken.verdict is BROKEN  # of the wrong type it spoils the whole file


def test_acrn_of_1_x_has_no_vsock(tmp_path: Path) -> None:
    text = changed(QEMU_1, "hypervisor.qemu", "hypervisor.acrn")
    assert look(tmp_path, text)["kata-acrn"].verdict is MISSING
    assert look(tmp_path, text, "2.0.0")["kata-acrn"].verdict is OK


# since 2.0


def test_what_1_x_left_behind_is_ignored_since_2_0(tmp_path: Path) -> None:
    text = changed(QEMU_1, "#use_vsock = true", "use_vsock = false")
    found = look(tmp_path, text, "2.5.2")
    assert found["kata-qemu"].verdict is OK
    assert f"use_vsock at {tmp_path}/configuration.toml:20 is ignored since 2.0" in found["kata-qemu"].seen
    assert found["kata-proxy"].verdict is UNUSED
    assert "ignored since 2.0" in found["kata-proxy"].seen
    # an upgraded file has both; what only newer ones have tells
    both = text.replace("kernel_modules=[]", "kernel_modules=[]\n#debug_console_enabled = true")
    assert "Kata Containers 2.0 or later" in look(tmp_path, both)["kata-version"].seen


@pytest.mark.parametrize(
    ("name", "version", "verdict"), [("3.2.0-qemu.toml", "", BROKEN), (RUST, "", OK), (QEMU_2, "2.4.0", OK)]
)
def test_use_vsock_in_a_drop_in_is_fatal_to_the_go_runtime(
    tmp_path: Path, name: str, version: str, verdict: Verdict
) -> None:
    drop_in = put(tmp_path, "config.d/20.toml", "[hypervisor.qemu]\nuse_vsock = true\n")
    found = look(tmp_path, changed(name), version)["kata-qemu"]
    assert found.verdict is verdict
    if verdict is BROKEN:
        assert f"{drop_in}:2: use_vsock is unknown since 2.0" in found.seen
        assert mended(found, tmp_path)["kata-qemu"].verdict is OK
        assert drop_in.read_text() == "[hypervisor.qemu]\n"


def test_drop_ins_override_by_name_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    put(tmp_path, "opt/configuration-qemu.toml", changed(RUST))
    put(tmp_path, "opt/config.d/20-b.toml", 'runtime.hypervisor_name = "dragonball"\n')
    put(tmp_path, "opt/config.d/10-a.toml", '[runtime]\nhypervisor_name = "x"\n[hypervisor.dragonball]\n')
    (tmp_path / "configuration.toml").symlink_to("opt/configuration-qemu.toml")
    examined = probe_kata.examine(bare(tmp_path), tmp_path / "configuration.toml")
    found = {finding.ability: finding for finding in examined.findings}
    assert found["kata-config"].verdict is OK
    assert re.search(r", then \S*/10-a.toml, \S*/20-b.toml", found["kata-config"].seen)
    assert {"kata-qemu", "kata-dragonball"} <= set(found)
    assert not examined.vhost  # Dragonball's needs none


@pytest.mark.parametrize("name", [QEMU_1, QEMU_2])
def test_several_hypervisors_are_each_reported_and_one_is_to_be_kept(tmp_path: Path, name: str) -> None:
    found = look(tmp_path, changed(name) + "\n[hypervisor.clh]\npath = 'x'\n")
    assert {"kata-qemu", "kata-clh"} <= set(found)
    assert found["kata-config"].verdict is BROKEN
    assert "[hypervisor.*] for qemu, clh: the Go runtime takes any one of them" in found["kata-config"].seen


def test_a_hypervisor_that_is_named_but_not_there(tmp_path: Path) -> None:
    text = changed(RUST, 'hypervisor_name = "qemu"', 'hypervisor_name = "clh"')
    found = look(tmp_path, text)["kata-config"]
    assert found.verdict is BROKEN
    line = number(text, 'hypervisor_name = "clh"')
    assert (
        f":{line}: hypervisor_name = 'clh', but there is no [hypervisor.clh]; the file has qemu" in found.seen
    )
