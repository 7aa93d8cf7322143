"""The cache of images: found by id, built under a lock, published by rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from harness.image import mounts
from harness.image import recipe as recipes
from harness.model.errors import HostUnfit, InfrastructureError, UsageError
from harness.model.progress import Progress, Silent

MANIFEST = "manifest.json"

_NEEDED_MIB = {"lab": 1024, "distribution": 1024, "program": 768}
"""Disk that must be free before such a kind is built, 512 for others. At its height debian's takes 701 MiB,
proxy's 532 (its compiler), of the others the largest 360."""

_ROOM = (
    "`vsock-harness images prune` removes images that no recipe asks for; "
    "or set XDG_CACHE_HOME to a folder with 3 GB free"
)

_LOCKED_WITHIN = 60.0
"""Seconds from a scratch folder's making to its lock's, by far."""


class Package(msgspec.Struct, frozen=True, order=True):
    """A Debian package that went into an image."""

    name: str
    version: str


class Entry(msgspec.Struct, frozen=True):
    """One published file: its size in bytes and the SHA-256 of its contents (or of a symlink's target)."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an image is: `built` is UTC, ISO 8601; `bytes` is the sum over `files`.

    `kind` is one of `recipe.Kind`; that of another checkout's image may be none that this one knows.
    """

    name: str
    id: str
    kind: str
    suite: str
    kernel: str
    built: str
    seconds: float
    bytes: int
    packages: tuple[Package, ...]
    files: dict[str, Entry]


class Image(msgspec.Struct, frozen=True):
    """A published image; everything under `path` is as it was built."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.manifest.name

    @property
    def id(self) -> str:
        """The recipe's identity, as in `recipe.identity`."""
        return self.manifest.id

    @property
    def is_distribution(self) -> bool:
        """Whether it is a distribution's own guest: with a root, and an sshd instead of an agent."""
        return self.manifest.kind == "distribution"

    @property
    def contents(self) -> str:
        """A hash of id and files: what is built again, of what Debian has by then, has other files."""
        words = [self.id, *(f"{name}\0{file.sha256}" for name, file in sorted(self.manifest.files.items()))]
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]

    def file(self, name: str) -> Path:
        """The path of one of its files.

        :raise InfrastructureError: if the image has no such file.
        """
        found = self.path / name
        if not found.exists():
            raise InfrastructureError(
                f"image {self.name} {self.id} has no {name}",
                hint=f"vsock-harness images build --force {self.name}",
            )
        return found


def describe(folder: Path) -> dict[str, Entry]:
    """Every file and symlink under `folder`, by relative name."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            target = os.fsencode(path.readlink())
            found[name] = Entry(len(target), hashlib.sha256(target).hexdigest())
        elif path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                found[name] = Entry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    return found


class Store:
    """The images under `root`/images, and read-only ones under `extra` folders (of the same NAME/ID/)."""

    def __init__(
        self, root: Path, *, extra: tuple[Path, ...] = (), recipe_folder: Path = recipes.RECIPES
    ) -> None:
        self._folder = root / "images"
        self._scratch = root / "scratch"
        self._places = (self._folder, *extra)
        self._recipes = recipe_folder

    def find(self, name: str) -> Image | None:
        """The image that today's recipe asks for, if it is there."""
        identity = recipes.identity(name, self._recipes)
        for place in self._places:
            image = _read(place / name / identity)
            if image is not None:
                return image
        return None

    def get(self, name: str, progress: Progress | None = None, *, force: bool = False) -> Image:
        """The image that today's recipe asks for, built first if it is missing (or if `force`).

        Two callers at once build once: the second waits for the first and takes what that made. A build that
        is ended at any moment leaves no image, and the next one removes its scratch folder.

        :raise HostUnfit: when the cache can't be written, or a program that building needs is missing.
        :raise InfrastructureError: when a step fails; its output is in the detail.
        """
        found = None if force else self.find(name)
        if found is not None:
            return found
        with self._locked(name):
            found = None if force else self.find(name)
            return found or self._build(name, progress or Silent())

    def images(self) -> list[Image]:
        """All published images, current or not, by name and age."""
        found = [_read(path) for place in self._places for path in sorted(place.glob("*/*")) if path.is_dir()]
        return sorted(
            (image for image in found if image), key=lambda image: (image.name, image.manifest.built)
        )

    def current(self, image: Image) -> bool:
        """Whether today's recipe still asks for this image."""
        return (
            image.name in recipes.names(self._recipes)
            and recipes.identity(image.name, self._recipes) == image.id
        )

    def verify(self, image: Image) -> list[str]:
        """What differs between the image on disk and its manifest, one line each; empty if nothing does."""
        now, then = describe(image.path), image.manifest.files
        lines = [f"{name}: missing" for name in then if name not in now]
        lines += [f"{name}: not in the manifest" for name in now if name not in then]
        lines += [f"{name}: changed" for name in then if name in now and now[name] != then[name]]
        return lines

    def remove(self, image: Image) -> None:
        """Remove an image: out of sight by one rename, then from disk."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        gone = Path(tempfile.mkdtemp(dir=self._scratch, prefix="removed-"))
        image.path.rename(gone / image.id)
        shutil.rmtree(gone)

    def _build(self, name: str, progress: Progress) -> Image:
        from harness.image import build, distribution, pack  # needed rarely, and they import much

        identity = recipes.identity(name, self._recipes)
        wish = recipes.load(name, self._recipes)
        builder = distribution.build if wish.kind == "distribution" else build.build
        builder = pack.build if wish.programs else builder
        with self._scratch_folder(name) as scratch:
            _check_room(name, scratch, _NEEDED_MIB.get(wish.kind, 512))
            with _readable():
                manifest = builder(name, identity, self._recipes, scratch, progress)
            target = self._folder / name / identity
            if target.exists():
                self.remove(Image(path=target, manifest=manifest))
            target.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "out").rename(target)
        return Image(path=target, manifest=manifest)

    @contextlib.contextmanager
    def _scratch_folder(self, name: str) -> Iterator[Path]:
        """A folder on the cache's file system, locked while its owner lives; dead owners' are swept."""
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            for left in self._scratch.iterdir():
                _sweep(left)
            scratch = Path(tempfile.mkdtemp(dir=self._scratch, prefix=f"{name}-"))
        except OSError as error:
            raise unwritable(self._scratch, error) from error
        with (scratch / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield scratch
            except (OSError, InfrastructureError) as error:
                if not _is_no_space(error):
                    raise
                raise InfrastructureError(
                    f"building image {name}: no space left in {self._scratch}",
                    hint=_ROOM,
                ) from error
            finally:
                _remove(scratch)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock: IO[str] = (self._folder / f".{name}.lock").open("w")
        except OSError as error:
            raise unwritable(self._folder, error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_no_space(error: OSError | InfrastructureError) -> bool:
    """Whether a build failed for want of disk: our own write, or that of a program that it ran."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return os.strerror(errno.ENOSPC) in error.detail


def _check_room(name: str, scratch: Path, needed: int) -> None:
    """:raise HostUnfit: there is too little room for a build, which it would say itself a minute later."""
    found = os.statvfs(scratch)  # all zeros where FUSE does not tell
    free = found.f_bavail * found.f_frsize >> 20
    if found.f_blocks and free < needed:
        raise HostUnfit(
            f"image {name} can't be built: {free} MiB are free in {scratch.parent}, {needed} are needed",
            ability="cache",
            hint=_ROOM,
        )


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """What is made meanwhile all may read, whatever the user's umask: within a guest not everyone is root."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def unwritable(folder: Path, error: OSError) -> HostUnfit:
    """The error for a cache that can't be written."""
    return HostUnfit(
        f"the image cache {folder} can't be written: {error.strerror}",
        ability="cache",
        hint="set XDG_CACHE_HOME to a writable folder with 3 GB free",
    )


def _sweep(folder: Path) -> None:
    """Remove a scratch folder whose owner is gone: nobody holds its lock."""
    if not is_held(folder):
        _remove(folder)


def is_held(folder: Path) -> bool:
    """Whether somebody works in a scratch folder: he holds its lock, or has just made it and will lock it.

    One that is being removed, or that a killed builder or remover left, has no lock either; it is nobody's
    once so much time has passed.
    """
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime <= _LOCKED_WITHIN
    except BlockingIOError:
        return True
    return False


def _remove(folder: Path) -> None:
    """What can be removed; not through a mount, which would remove what is mounted."""
    if not mounts.below(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> Image | None:
    try:
        return Image(
            path=folder, manifest=msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{folder / MANIFEST}: {error}", hint=f"remove {folder}") from error
