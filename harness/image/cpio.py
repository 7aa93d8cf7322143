"""Initramfs segments in the newc format (kernel: driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

_TRAILER = "TRAILER!!!"


class Entry(NamedTuple):
    """One file of a segment. `name` is relative to the root; `data` is a symlink's target for S_IFLNK."""

    name: str
    mode: int
    data: bytes | Path = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str, mode: int = 0o755) -> Entry:
    """A folder."""
    return Entry(name, stat.S_IFDIR | mode)


def file(name: str, data: bytes | Path, mode: int = 0o644) -> Entry:
    """A regular file; a `Path` is read when it is written out."""
    return Entry(name, stat.S_IFREG | mode, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def node(name: str, mode: int, major: int, minor: int) -> Entry:
    """A character device."""
    return Entry(name, stat.S_IFCHR | mode, b"", (major, minor))


def write(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write one whole segment, padded to 512 bytes so that another one can follow.

    Everything is owned by root and has time 0, so the same input gives the same bytes.
    """
    number = 0
    for number, entry in enumerate(entries, 1):
        data = entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data
        _write_one(out, number, entry, data)
    _write_one(out, 0, Entry(_TRAILER, 0), b"")
    out.write(b"\0" * (-out.tell() % 512))


def _write_one(out: BinaryIO, inode: int, entry: Entry, data: bytes) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(data), 0, 0, *entry.device, len(name), 0)
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
    out.write(b"\0" * (-out.tell() % 4))
    out.write(data)
    out.write(b"\0" * (-out.tell() % 4))


def walk(tree: Path, prefix: str = "") -> Iterable[Entry]:
    """All of `tree` as entries, sorted, folders before what they hold; no devices or sockets."""
    for found in sorted(os.scandir(tree), key=lambda item: item.name):
        name = prefix + found.name
        mode = found.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            yield symlink(name, str(Path(found.path).readlink()))
        elif stat.S_ISDIR(mode):
            yield folder(name, stat.S_IMODE(mode))
            yield from walk(Path(found.path), name + "/")
        elif stat.S_ISREG(mode):
            yield file(name, Path(found.path), stat.S_IMODE(mode))
