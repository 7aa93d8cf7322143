"""The last step of each build: the drive that a lab mounts, and the manifest."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from pathlib import Path

import msgspec

from harness.image import recipe, store, tree


def manifest(
    name: str, identity: str, wish: recipe.Recipe, packages: tuple[store.Package, ...], kernel: str = ""
) -> store.Manifest:
    """The manifest of an image that is built now, before its files are (`finished`).

    :param packages: what Debian packages are in it.
    :param kernel: the release of its kernel, if it has one.
    """
    return store.Manifest(
        name=name,
        id=identity,
        kind=wish.kind,
        suite=wish.suite,
        kernel=kernel,
        built=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        bytes=0,
        packages=packages,
        files={},
    )


def finished(
    manifest: store.Manifest, out: Path, scratch: Path, *, begun: float, drive: bool = True
) -> store.Manifest:
    """Write ``manifest.json`` with the files that are in `out`; before it `image.erofs` of them, if `drive`.

    In the drive, ``where`` tells its place in a lab's store (guest-images/lab/rc mounts it there).

    :param begun: `time.monotonic` when the build began.
    :raise InfrastructureError: the drive can't be made.
    """
    if drive:
        staged = scratch / "drive"
        shutil.copytree(out, staged, copy_function=os.link)
        _write(_described(manifest, out, begun), staged)
        (staged / "where").write_text(f"{manifest.name}/{manifest.id}\n")
        tree.run(
            ["mkfs.erofs", "--all-root", "-T0", str(out / "image.erofs"), str(staged)], "packing the drive"
        )
    manifest = _described(manifest, out, begun)
    _write(manifest, out)
    return manifest


def _described(manifest: store.Manifest, out: Path, begun: float) -> store.Manifest:
    files = store.describe(out)
    size = sum(entry.bytes for entry in files.values())
    seconds = round(time.monotonic() - begun, 1)
    return msgspec.structs.replace(manifest, files=files, bytes=size, seconds=seconds)


def _write(manifest: store.Manifest, folder: Path) -> None:
    (folder / store.MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
