"""The last step of a build: the drive that a lab mounts, and the manifest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from harness.image import store, tree


def finished(manifest: store.Manifest, out: Path, scratch: Path) -> store.Manifest:
    """Write `image.erofs` of all that is in `out`, then ``manifest.json`` with the files that are there now.

    In the drive, ``where`` tells its place in a lab's store (guest-images/lab/rc mounts it there).
    """
    staged = scratch / "drive"
    shutil.copytree(out, staged, copy_function=os.link)
    _write(_described(manifest, out), staged)
    (staged / "where").write_text(f"{manifest.name}/{manifest.id}\n")
    tree.run(["mkfs.erofs", "--all-root", "-T0", str(out / "image.erofs"), str(staged)], "packing the drive")
    manifest = _described(manifest, out)
    _write(manifest, out)
    return manifest


def _described(manifest: store.Manifest, out: Path) -> store.Manifest:
    files = store.describe(out)
    return msgspec.structs.replace(manifest, files=files, bytes=sum(entry.bytes for entry in files.values()))


def _write(manifest: store.Manifest, folder: Path) -> None:
    (folder / store.MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
