"""Folders that are costly to make and kept between runs: saved pods, saved labs.

Each has a key, a hash of all that it depends on. It is made once under a lock, published by rename, used
under a shared lock (flock(2), so a dead user's is gone), and removed when it has not been used for long or
others need the room. What is there can also be used where nothing can be written.

A lock's file goes with its folder, removed by who holds the lock for himself. Who was waiting has a lock then
that nobody else will ask for, so who gets one looks whether its file is still there, and else begins anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from harness.model.errors import InfrastructureError

_BLOCK = 512
"""The unit of `st_blocks` (stat(3type)); the files are sparse, so their sizes say nothing."""

_DAY = 24 * 3600.0
_NEW, _GONE = "new-", "gone-"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a depot keeps: at most this many bytes on disk, nothing unused for longer than `days`."""

    bytes: int
    days: float = 14.0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One published folder: its bytes on disk, when it was last used (seconds since 1970)."""

    key: str
    path: Path
    bytes: int
    used: float


class Depot:
    """The folders below `root`, by key. Making this object makes nothing.

    What is in `fixed`, the root of a depot where nothing can be written, is used as if it were in `root`.
    """

    def __init__(self, root: Path, limits: Limits, fixed: Path | None = None) -> None:
        self.root = root
        self.limits = limits
        self._fixed = Depot(fixed, limits) if fixed else None
        self._useless: set[str] = set()

    @contextlib.contextmanager
    def using(self, key: str, *, wait: bool = True) -> Iterator[Path | None]:
        """The folder of `key`, None if there is none. Nobody removes it for the time of the `with`.

        Where a depot can be read only, and has no lock's file either, nobody who can write it is kept from
        removing it; nor could he be.

        :param wait: False raises instead of waiting for the lock, as an event loop needs it.
        :raise BlockingIOError: without `wait`, when it is being removed.
        """
        path = self.root / key
        if not path.is_dir():
            if self._fixed and key not in self._useless:
                with self._fixed.using(key, wait=wait) as found:
                    yield found
            else:
                yield None
            return
        with self._held(key, _how(fcntl.LOCK_SH, wait)):
            if not path.is_dir():
                yield None
                return
            with contextlib.suppress(OSError):  # a read-only cache serves as well
                os.utime(path)
            yield path

    @contextlib.contextmanager
    def making(self, key: str, *, wait: bool = True) -> Iterator[Path | None]:
        """An empty folder to fill, which is published as `key` if the `with` is left without an exception.

        None if it is there by now: somebody else was at it, and this call waited for them. What a power cut
        may not leave half written is to be on disk by then (`sync`).

        :param wait: as of `using`.
        :raise BlockingIOError: without `wait`, when somebody else is at it.
        :raise InfrastructureError: when nothing can be written there.
        """
        with self._locked(key, _how(fcntl.LOCK_EX, wait)):
            if (self.root / key).is_dir():
                yield None
                return
            with self._scratch(key) as folder:
                yield folder
                folder.rename(self.root / key)
        self.prune()

    def discard(
        self, key: str, *, wait: bool = True, still: Callable[[Path], bool] = lambda folder: True
    ) -> None:
        """Remove the folder of `key`, for good: it turned out to be of no use. Waits for its users.

        One that can't be written is no more there for this object.

        :param wait: as of `using`.
        :param still: whether what is there now is what was of no use, and not another's new one.
        :raise BlockingIOError: without `wait`, when somebody uses it.
        :raise InfrastructureError: when it can't be removed.
        """
        with self._locked(key, _how(fcntl.LOCK_EX, wait)):
            path = self.root / key
            if path.is_dir() and not still(path):
                return
            self._useless.add(key)
            self._remove(path)

    def kept(self) -> list[Kept]:
        """What is published, the least recently used first."""
        found = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if path.name.startswith((".", _NEW, _GONE)):
                continue
            with contextlib.suppress(FileNotFoundError):
                found.append(Kept(key=path.name, path=path, bytes=_bytes(path), used=path.stat().st_mtime))
        return sorted(found, key=lambda kept: kept.used)

    def prune(self, limits: Limits | None = None, *, dry_run: bool = False) -> list[Kept]:
        """Remove what is over the limits, and what killed makers left; returns it. What is in use stays.

        :param dry_run: only tell what would be removed.
        :raise InfrastructureError: when something can't be removed.
        """
        limits = limits or self.limits
        if not dry_run:
            self._sweep()
        left = self.kept()
        total = sum(kept.bytes for kept in left)
        removed = []
        for kept in left:
            if total <= limits.bytes and time.time() - kept.used <= limits.days * _DAY:
                continue
            with contextlib.suppress(BlockingIOError), self._locked(kept.key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if not dry_run:
                    self._remove(kept.path)
                removed.append(kept)
                total -= kept.bytes
        return removed

    @contextlib.contextmanager
    def _held(self, key: str, how: int) -> Iterator[None]:
        """The shared lock of `key`, for which a file that can be read will do.

        :raise BlockingIOError: as `_locked`.
        """
        if _writable(self.root):
            with self._locked(key, how):
                yield
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_flocked(self._lock_of(key), "r", how))
            except BlockingIOError:
                raise
            except OSError:
                pass
            yield

    def _lock_of(self, key: str) -> Path:
        return self.root / f".{key}.lock"

    @contextlib.contextmanager
    def _locked(self, key: str, how: int) -> Iterator[None]:
        """Hold the lock of `key`; where there is no such folder afterwards, its file is removed.

        :raise BlockingIOError: with LOCK_NB, when others hold it.
        """
        path = self._lock_of(key)
        with contextlib.ExitStack() as stack:
            try:
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(_flocked(path, "a", how))
            except BlockingIOError:
                raise
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield
            finally:
                if how & fcntl.LOCK_EX and not (self.root / key).exists():
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _scratch(self, key: str) -> Iterator[Path]:
        """A folder for the maker; it is gone afterwards, unless it was published."""
        try:
            folder = Path(tempfile.mkdtemp(dir=self.root, prefix=f"{_NEW}{key}-"))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what makers and removers left that were killed: nobody holds the lock of its key.

        What is not ours to lock stays: another user's, or all of it on a read-only file system.
        """
        left = [*self.root.glob(f"{_NEW}*"), *self.root.glob(f"{_GONE}*")]
        locks = {path.stem.removeprefix(".") for path in self.root.glob(".*.lock")}
        alone = {key for key in locks if not (self.root / key).exists()}
        for key in alone | {path.name.split("-")[1] for path in left}:
            free = self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(BlockingIOError, InfrastructureError), free:
                for path in left:
                    if path.name.split("-")[1] == key:
                        shutil.rmtree(path, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        """Out of sight by one rename, then from disk."""
        gone = path.with_name(f"{_GONE}{path.name}-{os.getpid()}")
        try:
            path.rename(gone)
            shutil.rmtree(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InfrastructureError(f"{path} can't be removed: {error.strerror}") from error

    def _unwritable(self, error: OSError) -> InfrastructureError:
        return InfrastructureError(
            f"nothing can be kept in {self.root}: {error.strerror}",
            hint="set XDG_CACHE_HOME to a writable folder",
        )


@contextlib.contextmanager
def _flocked(path: Path, mode: str, how: int) -> Iterator[None]:
    """Hold the lock of the file that is at `path` then, which is opened in that mode.

    :raise BlockingIOError: with LOCK_NB, when others hold it.
    :raise OSError: it can't be opened.
    """
    while True:
        with path.open(mode) as file:
            fcntl.flock(file, how)
            if _is_at(file, path):
                yield
                return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _how(lock: int, wait: bool) -> int:
    return lock if wait else lock | fcntl.LOCK_NB


def sync(folder: Path) -> None:
    """Have all in `folder`, and their names, on disk (fsync(2))."""
    for path in [*folder.rglob("*"), folder]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _writable(path: Path) -> bool:
    """Whether files can be made there (access(2)); not so on a read-only file system, for root either."""
    return os.access(path, os.W_OK)


def free_bytes(path: Path) -> int:
    """What this user may still write on the file system of `path`, which need not be there yet; without end
    where that does not say (FUSE without statfs, which is all zeros)."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * _BLOCK for path in folder.rglob("*"))
