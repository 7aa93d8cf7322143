"""Kata's version and configuration: the releases' files in `scenarios/kata_config`, and mutations of them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.host import probe_kata
from harness.host.finding import Finding, Verdict
from harness.host.kata import GO_PATHS, RUST_PATHS, Host, Release, of_clone
from harness.host.kata_toml import BadToml, Document

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


# use_vsock in 1.x


def mended(finding: Finding, root: Path) -> dict[str, Finding]:
    """The findings once the finding's command has been run."""
    assert finding.mend
    subprocess.run(["sh", "-c", re.sub(r"\bsudo ", "", finding.mend)], check=True)
    return look(root, (root / "configuration.toml").read_text())


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


RENDERED = changed(QEMU_1)


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
