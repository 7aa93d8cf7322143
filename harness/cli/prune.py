"""What ``vsock-harness images prune`` may remove, and what it must leave alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.host.depot import Depot
from harness.image import mounts
from harness.image.store import Image, Store, is_held
from harness.lab import saved
from harness.model.errors import InfrastructureError
from harness.run.place import TEMPLATES


def user(folder: Path) -> int | None:
    """A process that runs from `folder`: QEMU, its loader, kernel and drives are named on its command line.

    A lab that has opened them needs their names no more: a file lives until it is closed, whoever unlinks it.
    But QEMU loads modules when a device is plugged in, and a pod's image is opened pod by pod.
    """
    inside = os.fsencode(f"{folder}/")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                if inside in (process / "cmdline").read_bytes():
                    return int(process.name)
    return None


def remove(store: Store, image: Image) -> None:
    """Remove an image, unless another prune was faster.

    :raise InfrastructureError: when it can't be removed.
    """
    try:
        store.remove(image)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _stuck(image.path, error) from error


class Leftover(msgspec.Struct, frozen=True):
    """A folder of a build, or of a removal, whose process has ended."""

    path: Path

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir())

    def remove(self) -> None:
        """Remove it.

        :raise InfrastructureError: when it can't be removed, or something is mounted there.
        """
        if mounted := mounts.below(self.path):
            raise InfrastructureError(
                f"{self.path} can't be removed: mounted there: {', '.join(mounted)}",
                hint=f"sudo umount {' '.join(reversed(mounted))}; then prune again",
            )
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _stuck(self.path, error) from error


def states(root: Path) -> Iterator[tuple[str, Depot]]:
    """What is kept in the cache `root` beside images: saved labs and saved pods, and what each is called."""
    yield "saved lab", Depot(root / "labs", saved.LIMITS)
    yield "template", Depot(root / "templates", TEMPLATES)


def leftovers(root: Path) -> Iterator[Leftover]:
    """The scratch folders of the cache `root` that no living process holds (see `Store`)."""
    scratch = root / "scratch"
    for folder in sorted(scratch.iterdir()) if scratch.is_dir() else ():
        if folder.is_dir() and (folder.name.startswith("removed-") or not is_held(folder)):
            yield Leftover(folder)


def _stuck(path: Path, error: OSError) -> InfrastructureError:
    return InfrastructureError(
        f"{path} can't be removed: {error.strerror}",
        hint="is it another user's, or on a read-only file system?",
    )
