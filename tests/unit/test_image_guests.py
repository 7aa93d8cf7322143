"""Guests of other releases: recipes that are like another one, and what older packages need."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.image import build, kernel, recipe, tree
from harness.model.errors import InfrastructureError, UsageError

POD = 'kind = "guest"\nsuite = "trixie"\npackages = ["linux"]\nmodules = ["a", "b"]\nany-age = true\n'


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """`pod` with a file beside it, and `old`, which is like it."""
    folder = tmp_path / "guest-images"
    for name, text in {"pod": POD, "old": 'like = "pod"\nsuite = "bookworm"\nmodules = ["a"]\n'}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "recipe.toml").write_text(text)
    for name in ("init", "inittab"):
        (folder / "pod" / name).write_text("pod's")
    return folder


def write(recipes: Path, name: str, text: str) -> None:
    (recipes / name).mkdir(exist_ok=True)
    (recipes / name / "recipe.toml").write_text(text)


def test_it_has_the_keys_of_what_it_is_like_but_for_its_own(recipes: Path) -> None:
    old = recipe.load("old", recipes)
    assert (old.kind, old.packages, old.any_age) == ("guest", ("linux",), True)
    assert (old.suite, old.modules) == ("bookworm", ("a",))
    assert recipe.guests(recipes) == ["old", "pod"]


def test_it_has_the_files_of_what_it_is_like_but_for_its_own(recipes: Path) -> None:
    (recipes / "old/init").write_text("its own")
    found = recipe.files("old", recipes)
    assert found == {
        "init": recipes / "old/init",
        "inittab": recipes / "pod/inittab",
        "recipe.toml": recipes / "old/recipe.toml",
    }


@pytest.mark.parametrize("changed", ["pod/recipe.toml", "pod/inittab", "old/recipe.toml"])
def test_what_it_shares_is_part_of_what_it_is(recipes: Path, changed: str) -> None:
    before = recipe.identity("old", recipes)
    with (recipes / changed).open("a") as file:
        file.write("# more\n")
    assert recipe.identity("old", recipes) != before


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('like = "pot"\n', "like must be another recipe, not 'pot'; there are: old, pod"),
        ('like = "new"\n', "like must be another recipe, not 'new'; there are: old, pod"),
        ("like = 1\n", "like must be another recipe, not 1; there are: old, pod"),
        ('like = "old"\n', "old is itself like pod, so name that"),
    ],
)
def test_what_it_cannot_be_like(recipes: Path, text: str, wrong: str) -> None:
    write(recipes, "new", text)
    with pytest.raises(UsageError, match=wrong):
        recipe.load("new", recipes)


def test_every_guest_of_ours_boots_by_the_same_files() -> None:
    ours = recipe.files("pod")
    for name in (name for name in recipe.guests() if recipe.load(name).kind == "guest"):
        assert {file: path for file, path in recipe.files(name).items() if file != "recipe.toml"} == {
            file: path for file, path in ours.items() if file != "recipe.toml"
        }


@pytest.mark.parametrize(("suite", "merged"), [("bookworm", True), ("bullseye", True), ("trixie", False)])
def test_packages_of_old_releases_are_unpacked_into_merged_folders(
    recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str, merged: bool
) -> None:
    def run(argv: list[str], what: str, **rest: object) -> str:
        assert any("usr/$part" in word for word in argv) is merged
        raise InfrastructureError("enough seen")

    monkeypatch.setattr(tree, "run", run)
    write(recipes, "old", f'like = "pod"\nsuite = "{suite}"\n')
    with pytest.raises(InfrastructureError, match="enough seen"):
        build._unpack(recipe.load("old", recipes), tmp_path, tmp_path / "tree")


def test_links_that_are_not_kept_go_too(recipes: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for folder in ("usr/lib/python3", "usr/share"):
        (root / folder).mkdir(parents=True)
    (root / "usr/lib/python3/os.py").touch()
    (root / "lib").symlink_to("usr/lib")
    write(recipes, "old", 'like = "pod"\nkeep = ["usr/lib/python3"]\n')
    build._prune(root, recipe.load("old", recipes))
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "usr",
        "usr/lib",
        "usr/lib/python3",
        "usr/lib/python3/os.py",
    ]


def bzimage(payload: bytes) -> bytes:
    """A bzImage of one setup sector, as far as what finds its payload goes."""
    header = bytearray(1024)
    header[0x1F1] = 1
    struct.pack_into("<II", header, 0x248, 0, len(payload))
    return bytes(header) + payload


LOADER = """#!/bin/sh
# --library-path FOLDERS PROGRAM -dqf FROM TO: what is behind the magic number
[ "$(basename "$3")" = lz4 ] && tail -c +5 "$5" >"$6"
"""


@pytest.fixture
def with_lz4(tmp_path: Path) -> Path:
    """A tree whose loader is a script that plays lz4."""
    loader = tmp_path / "tree" / tree.LIBRARIES[0] / "ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text(LOADER)
    loader.chmod(0o755)
    return tmp_path / "tree"


def test_a_kernel_packed_by_lz4_is_unpacked_by_its_releases_own(tmp_path: Path, with_lz4: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"\x02\x21\x4c\x18\x7fELF...SIZE"))
    kernel.unpack_vmlinux(tmp_path / "vmlinuz", tmp_path / "vmlinux", tmp_path, with_lz4)
    assert (tmp_path / "vmlinux").read_bytes() == b"\x7fELF..."


def test_what_was_packed_must_be_a_kernel(tmp_path: Path, with_lz4: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"\x02\x21\x4c\x18textSIZE"))
    with pytest.raises(InfrastructureError, match="is no ELF kernel"):
        kernel.unpack_vmlinux(tmp_path / "vmlinuz", tmp_path / "vmlinux", tmp_path, with_lz4)


def test_a_kernel_packed_otherwise_is_named(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"gzip"))
    with pytest.raises(InfrastructureError, match="neither zstd, xz nor lz4: 677a6970"):
        kernel.unpack_vmlinux(tmp_path / "vmlinuz", tmp_path / "vmlinux", tmp_path, tmp_path)
