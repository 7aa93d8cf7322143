"""Programs cut out of a Debian tree: an archive each, with the libraries that it needs."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.image import build as base
from harness.image import finish, recipe, store, tree
from harness.model.errors import UsageError
from harness.model.progress import Progress

_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
"""Debian's merged /usr; a program names its dynamic loader as /lib64/ld-linux-x86-64.so.2."""

_STATIC = 1
"""What the loader's --verify ends with for a file that it can't load: elf/rtld.c in glibc."""


def build(name: str, identity: str, folder: Path, scratch: Path, progress: Progress) -> store.Manifest:
    """As `harness.image.build.build`, for a recipe of kind "tree" that names `programs`.

    The image holds ``NAME.tar`` for each, the packages' copyright files, and `image.erofs` of all that for a
    lab's drive. The tree itself is not kept.

    :raise UsageError: a program's file is not in the tree.
    """
    wish = recipe.load(name, folder)
    begun = time.monotonic()
    manifest = base.build(name, identity, folder, scratch, progress)
    out, root = scratch / "out", scratch / "tree"
    (out / store.MANIFEST).unlink()
    shutil.move(out / "tree", root)
    with progress.stage(f"image {name}: archives"):
        for program, files in sorted(wish.programs.items()):
            with tarfile.open(out / f"{program}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
                _write(tar, root, _with_libraries(root, files, program))
        base.licences(root, out / "licences")
        return finish.finished(manifest, out, scratch, begun=begun)


def _with_libraries(root: Path, files: Iterable[str], program: str) -> list[Path]:
    """`files` of the tree and what their dynamic linking brings in, as paths inside `root`, sorted."""
    found: set[Path] = set()
    for name in files:
        path = root / name
        if not path.is_symlink() and not path.is_file():
            raise UsageError(f"program {program}: {name} is not in the tree", hint="see the recipe")
        found.add(Path(name))
        if not path.is_symlink():
            found |= set(_libraries(root, path))
    return sorted(found)


def _libraries(root: Path, program: Path) -> Iterator[Path]:
    """The loader and the shared libraries of an ELF file, by the tree's own loader (ld.so(8)); none of a
    static one.

    A symlink comes with the file that it names.
    """
    if subprocess.run([str(root / tree.LOADER), "--verify", str(program)], check=False).returncode == _STATIC:
        return
    libraries = ":".join(str(root / folder) for folder in tree.LIBRARIES)
    argv = [str(root / tree.LOADER), "--library-path", libraries, "--list", str(program)]
    for word in tree.run(argv, f"listing the libraries of {program.name}").split():
        if word.startswith(f"{root}/"):
            path = Path(word)
            yield path.relative_to(root)
            yield path.resolve().relative_to(root.resolve())


def _write(tar: tarfile.TarFile, root: Path, paths: list[Path]) -> None:
    """The files, owned by root and of time 0, and the links of a merged /usr: same input, same bytes."""
    for name, target in sorted(_LINKS.items()):
        _add(tar, name, link=target)
    for path in paths:
        source = root / path
        if source.is_symlink():
            _add(tar, str(path), link=str(source.readlink()))
        else:
            _add(tar, str(path), data=source.read_bytes(), mode=source.stat().st_mode & 0o755)


def _add(tar: tarfile.TarFile, name: str, *, data: bytes = b"", mode: int = 0o755, link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(data)
    if link:
        entry.type, entry.linkname = tarfile.SYMTYPE, link
    tar.addfile(entry, io.BytesIO(data))
