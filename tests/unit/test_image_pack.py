"""Programs cut out of a tree: this machine's own loader, libc and a program of it make a small one."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest

from harness.image import build, pack, recipe, store, tree
from harness.model.errors import UsageError
from harness.model.progress import Progress, Silent

RECIPE = """
kind = "tree"
suite = "trixie"
packages = ["coreutils"]
[programs]
true = {files}
"""
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "recipes/toy").mkdir(parents=True)
    return tmp_path / "recipes"


def wish(recipes: Path, *files: str) -> None:
    (recipes / "toy/recipe.toml").write_text(RECIPE.format(files=list(files)))


@pytest.fixture
def made(tmp_path: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scratch folder of a builder that finds its tree there; packing the drive is left out."""
    scratch = tmp_path / "scratch"
    root = scratch / "out/tree"
    for folder in ("usr/bin", "usr/lib64", LIBRARIES, "usr/share/doc/coreutils"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / LIBRARIES / "ld.so")
    (root / tree.LOADER).symlink_to("../lib/x86_64-linux-gnu/ld.so")
    shutil.copy(shutil.which("true") or "", root / "usr/bin/true")
    (root / "usr/bin/truth").symlink_to("true")
    (root / "usr/bin/script").write_text("#!/bin/sh\n")
    shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", root / LIBRARIES / "libc-1.so")
    (root / LIBRARIES / "libc.so.6").symlink_to("libc-1.so")
    (root / "usr/share/doc/coreutils/copyright").write_text("GPL")

    def unpacked(name: str, identity: str, folder: Path, scratch: Path, progress: Progress) -> store.Manifest:
        (scratch / "out/manifest.json").write_text("of the tree")
        return store.Manifest(name, identity, "tree", "trixie", "", "2026", 1.0, 0, (), {})

    def run(argv: list[str], what: str) -> str:
        if argv[0] != "mkfs.erofs":
            return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert (Path(argv[-1]) / "where").read_text() == "toy/0123\n"
        Path(argv[-2]).write_bytes(b"drive")
        return ""

    monkeypatch.setattr(build, "build", unpacked)
    monkeypatch.setattr(tree, "run", run)
    return scratch


def archive(scratch: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(scratch / "out/true.tar") as tar:
        return {member.name: member for member in tar}


def test_a_program_comes_with_its_libraries_and_nothing_else(made: Path, recipes: Path) -> None:
    wish(recipes, "usr/bin/true", "usr/bin/truth", "usr/bin/script")
    manifest = pack.build("toy", "0123", recipes, made, Silent())
    assert sorted(path.name for path in (made / "out").iterdir()) == [
        *("image.erofs", "licences", "manifest.json", "true.tar"),
    ]
    found = archive(made)
    assert sorted(name for name in found if name.startswith("usr/")) == [
        "usr/bin/script",
        "usr/bin/true",
        "usr/bin/truth",
        "usr/lib/x86_64-linux-gnu/ld.so",
        "usr/lib/x86_64-linux-gnu/libc-1.so",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib64/ld-linux-x86-64.so.2",
    ]
    assert found["lib64"].linkname == "usr/lib64"
    assert found["usr/bin/truth"].linkname == "true"
    assert {(member.uid, member.mtime) for member in found.values()} == {(0, 0)}
    written = msgspec.json.decode((made / "out/manifest.json").read_bytes(), type=store.Manifest)
    assert written == manifest
    assert set(manifest.files) == {"image.erofs", "licences/coreutils", "true.tar"}


def test_it_runs_in_a_root_of_its_own(made: Path, recipes: Path, tmp_path: Path) -> None:
    wish(recipes, "usr/bin/true")
    pack.build("toy", "0123", recipes, made, Silent())
    with tarfile.open(made / "out/true.tar") as tar:
        tar.extraction_filter = lambda member, path: member
        tar.extractall(tmp_path / "root")
    root = tmp_path / "root"
    assert (root / "lib64/ld-linux-x86-64.so.2").exists()
    argv = tree.command(root, "usr/bin/true")
    assert subprocess.run(argv, check=False).returncode == 0


def test_a_file_that_the_tree_lacks_is_named(made: Path, recipes: Path) -> None:
    wish(recipes, "usr/bin/false")
    with pytest.raises(UsageError, match="program true: usr/bin/false is not in the tree"):
        pack.build("toy", "0123", recipes, made, Silent())


def test_the_packer_is_part_of_what_an_image_is(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish(recipes, "usr/bin/true")
    before = recipe.identity("toy", recipes)
    monkeypatch.setattr(recipe, "_BUILDS_PROGRAMS", ("build", "tree"))
    assert recipe.identity("toy", recipes) != before
