"""Recipes: what an image is made of, read from `guest-images/NAME/recipe.toml`."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from harness.model.errors import UsageError

Kind = Literal["guest", "lab", "kernel", "tree", "program", "distribution"]
RECIPES = Path(__file__).resolve().parents[2] / "guest-images"
_BUILDER = Path(__file__).resolve().parent
_BUILDS = ("build", "cpio", "finish", "kernel", "packages", "tree")
"""The modules whose change may change what comes out."""

_BUILDS_PROGRAM = ("build", "finish", "golang", "tree")
_BUILDS_PROGRAMS = ("build", "finish", "pack", "tree")
_BUILDS_DISTRIBUTION = ("build", "cpio", "distribution", "finish", "kernel", "tree")
_BUILDS_BY_KIND = {"program": _BUILDS_PROGRAM, "distribution": _BUILDS_DISTRIBUTION}


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One recipe. `keep`, `drop` and `compile` are shell patterns on paths inside the unpacked tree.

    An empty `keep` keeps all; `drop` is applied after it. `any_age`: take a suite whose Release file is past
    its Valid-Until; of a suite in testing it is valid for a week, and a mirror may lag behind.
    `programs`, in a tree: the files of each program; then archives of these are all that is kept
    (`harness.image.pack`). One that is `on_demand` is no part of "all images". A distribution's `drop` is
    dpkg's: patterns on absolute paths that it leaves out.
    `like`: another recipe, whose keys and files this one has, but for those that it has itself.
    """

    kind: Kind
    suite: str
    packages: tuple[str, ...]
    like: str = ""
    any_age: bool = False
    modules: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    compile: tuple[str, ...] = ()
    python_packages: str = ""
    programs: dict[str, tuple[str, ...]] = {}
    on_demand: bool = False


def names(folder: Path = RECIPES) -> list[str]:
    """The recipes there are, by name, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/recipe.toml"))


def usual(folder: Path = RECIPES) -> list[str]:
    """Those that are built without being asked for by name."""
    return [name for name in names(folder) if not load(name, folder).on_demand]


def guests(folder: Path = RECIPES) -> list[str]:
    """Those of which a pod's guest can be."""
    return [name for name in names(folder) if load(name, folder).kind in ("guest", "distribution")]


def load(name: str, folder: Path = RECIPES) -> Recipe:
    """Read one recipe.

    :raise UsageError: naming the file and what is wrong; for an unknown name, the names there are.
    """
    path = folder / name / "recipe.toml"
    known = names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no image is called {name!r}{guess}; there are: {', '.join(known)}")
    try:
        given = tomllib.loads(path.read_text())
        return msgspec.convert({**_shared(given, path, folder), **given}, Recipe)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        kinds = ", ".join(get_args(Kind))
        raise UsageError(
            f"{path}: {error}", hint=f"kinds: {kinds}; keys: {', '.join(Recipe.__struct_fields__)}"
        ) from error


def _shared(given: dict[str, Any], path: Path, folder: Path) -> dict[str, Any]:
    """The keys of the recipe that `given`, which is at `path`, is like.

    :raise UsageError: there is no such recipe, or it is like a third one.
    """
    like = given.get("like")
    others = [name for name in names(folder) if name != path.parent.name]
    if like is None:
        return {}
    if like not in others:
        raise UsageError(f"{path}: like must be another recipe, not {like!r}; there are: {', '.join(others)}")
    keys = tomllib.loads((folder / like / "recipe.toml").read_text())
    if "like" in keys:
        raise UsageError(f"{path}: {like} is itself like {keys['like']}, so name that")
    return keys


def files(name: str, folder: Path = RECIPES) -> dict[str, Path]:
    """What there is to make an image of, by file name: all beside the recipe, and what that refers to.

    A kernel for labs has the lab's `init`.

    :raise UsageError: as `load`.
    """
    recipe = load(name, folder)
    found = {"init": folder / "lab" / "init"} if recipe.kind == "kernel" else {}
    if recipe.python_packages:
        found[recipe.python_packages] = folder.parent / recipe.python_packages
    for place in (recipe.like, name) if recipe.like else (name,):
        found |= {path.name: path for path in (folder / place).iterdir() if path.is_file()}
    return found


def identity(name: str, folder: Path = RECIPES) -> str:
    """16 hex digits over the recipe, all files beside it, what it refers to, and the builder's own code.

    The same sources always give the same id; what Debian's mirror held on the day is in the manifest.
    """
    recipe = load(name, folder)
    sources = sorted(files(name, folder).values())
    sources += [folder / recipe.like / "recipe.toml"] if recipe.like else []
    modules = _BUILDS_PROGRAMS if recipe.programs else _BUILDS_BY_KIND.get(recipe.kind, _BUILDS)
    sources += [_BUILDER / f"{module}.py" for module in modules]
    total = hashlib.sha256()
    for path in sources:
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
