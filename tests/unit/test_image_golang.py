"""Images that are one program: how Go is called, what its image holds; the compiler is a script here."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from harness.image import build, golang, recipe, tree
from harness.image.store import Manifest, Package, Store
from harness.model.errors import InfrastructureError
from harness.model.progress import Silent

GO = """#!/bin/sh
# go build ... -o TARGET FILE...
env | sort > "$(dirname "$0")/env"
while [ "$1" != -o ]; do shift; done
target=$2
shift 2
[ -n "$1" ] || { echo "no Go files listed"; exit 1; }
cat "$@" > "$target" && chmod 755 "$target"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian tree with Go, as far as that matters."""
    made = tmp_path / "tree"
    go = made / "usr/lib/go-1.24/bin/go"
    go.parent.mkdir(parents=True)
    go.write_text(GO)
    go.chmod(0o755)
    (made / "usr/lib/go").symlink_to("go-1.24")
    licence = made / "usr/share/doc/golang-go/copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("BSD")
    return made


def test_go_gets_the_trees_libraries_no_network_and_nothing_of_this_machine(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOFLAGS", "-race")
    scratch = tmp_path / "scratch"
    (tmp_path / "main.go").write_text("package main")
    golang.compile_program(root, [tmp_path / "main.go"], tmp_path / "proxy", scratch)
    lines = (root / "usr/lib/go/bin/env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines)
    assert env["GOROOT"] == str(root / "usr/lib/go-1.24")
    assert env["GOPATH"] == str(root / "usr/share/gocode")
    assert (env["GO111MODULE"], env["GOTOOLCHAIN"], env["CGO_ENABLED"]) == ("off", "local", "0")
    for name in ("HOME", "XDG_CONFIG_HOME", "GOCACHE", "GOTMPDIR"):
        assert Path(env[name]).is_relative_to(scratch)
    assert env["GOENV"] == "off"
    assert "GOFLAGS" not in env


def test_go_counts_nothing_in_the_users_folders(root: Path, tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    scratch = tmp_path / "scratch"
    golang.compile_program(root, [tmp_path / "main.go"], tmp_path / "proxy", scratch)
    lines = (root / "usr/lib/go/bin/env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines)
    assert (Path(env["XDG_CONFIG_HOME"]) / "go/telemetry/mode").read_text() == "off"


def test_what_the_compiler_says_is_in_the_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="compiling proxy: go ended with 1") as told:
        golang.compile_program(root, [], tmp_path / "proxy", tmp_path)
    assert "no Go files" in told.value.detail


def test_an_image_holds_the_program_its_licences_and_a_drive_for_labs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, scratch = tmp_path / "guest-images", tmp_path / "scratch"
    (recipes / "toy").mkdir(parents=True)
    scratch.mkdir()
    (recipes / "toy/recipe.toml").write_text('kind = "program"\nsuite = "trixie"\npackages = ["golang-go"]\n')
    (recipes / "toy/main.go").write_text("package main\n")

    def unpack(wish: recipe.Recipe, scratch: Path, target: Path) -> tuple[Package, ...]:
        shutil.move(root, target)
        return (Package("golang-go", "1"),)

    packed: list[str] = []

    def run(argv: list[str], what: str, **rest: object) -> str:
        if argv[0] != "mkfs.erofs":
            return run_for_real(argv, what, **rest)  # type: ignore[arg-type]
        staged = Path(argv[-1])
        packed.extend(sorted(str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()))
        assert (staged / "where").read_text() == "toy/0123\n"
        Path(argv[-2]).write_text("a drive")
        return ""

    run_for_real = tree.run
    monkeypatch.setattr(build, "check_tools", lambda: None)
    monkeypatch.setattr(build, "_unpack", unpack)
    monkeypatch.setattr(tree, "run", run)
    build.build("toy", "0123", recipes, scratch, Silent())
    made = msgspec.json.decode((scratch / "out/manifest.json").read_bytes(), type=Manifest)
    assert sorted(made.files) == ["image.erofs", "licences/golang-go", "toy"]
    assert packed == ["licences/golang-go", "manifest.json", "toy", "where"]
    assert (scratch / "out/toy").stat().st_mode & 0o777 == 0o755
    assert (scratch / "out/toy").read_text() == "package main\n"
    assert (scratch / "out/licences/golang-go").read_text() == "BSD"


def test_a_programs_id_depends_on_its_compiler_and_no_others_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = tmp_path / "builder"
    shutil.copytree(Path(recipe.__file__).parent, builder)
    monkeypatch.setattr(recipe, "_BUILDER", builder)
    before = {name: recipe.identity(name) for name in ("proxy", "pod")}
    (builder / "golang.py").write_text("# another compiler")
    assert recipe.identity("proxy") != before["proxy"]
    assert recipe.identity("pod") == before["pod"]
    (builder / "cpio.py").write_text("# another archiver")
    assert recipe.identity("pod") != before["pod"]


def test_the_proxys_recipe_is_a_program_with_its_source_beside_it(tmp_path: Path) -> None:
    assert recipe.load("proxy").kind == "program"
    assert [path.name for path in (recipe.RECIPES / "proxy").glob("*.go")] == ["main.go"]
    assert Store(tmp_path).find("proxy") is None
