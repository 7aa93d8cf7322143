"""What a host needs of a folder's files, sent one by one: those whose contents it has not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import msgspec

RECORD = ".sent.json"
"""In a folder that files were sent to: the SHA-256 of each by its name, "" for one that is on its way.

Sizes and times are no contents: an edit may leave the size, in the same second, or all times be 1970's.
"""


class Sftp(Protocol):
    """What of paramiko's SFTPClient is used."""

    # ruff: noqa: D102
    def open(self, filename: str) -> Any: ...
    def putfo(
        self, fl: IO[bytes], remotepath: str, *, callback: Callable[[int, int], object], confirm: bool
    ) -> Any: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def posix_rename(self, oldpath: str, newpath: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def mkdir(self, path: str) -> None: ...


def pushed(
    sftp: Sftp,
    moved: Callable[[], None],
    folder: Path,
    target: PurePosixPath,
    names: Iterable[Path],
    *,
    only: bool,
) -> int:
    """See `harness.lab.ssh.Ssh.push`. `moved` is called as something was sent."""
    made: set[str] = set()

    def put(data: bytes, name: str, mode: int) -> None:
        """A file has its name only when it is whole; another process may be sending the same one."""
        path = target / name
        _make_folders(sftp, path.parent, made)
        fresh = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
        sftp.putfo(io.BytesIO(data), fresh, callback=lambda *_: moved(), confirm=False)
        sftp.chmod(fresh, mode)
        sftp.posix_rename(fresh, str(path))
        moved()

    there = _recorded(sftp, target)
    wanted = {str(name): (folder / name).read_bytes() for name in names}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()}
    gone = there.keys() - wanted.keys() if only else set()
    new = [name for name in wanted if there.get(name) != hashes[name]]
    if not (new or gone):
        return 0
    # whoever comes after a connection that broke knows what may be half there
    put(msgspec.json.encode({**there, **dict.fromkeys(new, "")}), RECORD, 0o644)
    for name in new:
        put(wanted[name], name, stat.S_IMODE((folder / name).stat().st_mode))
    for name in gone:
        with contextlib.suppress(FileNotFoundError):
            sftp.remove(str(target / name))
    kept = {name: known for name, known in there.items() if name not in gone}
    put(msgspec.json.encode({**kept, **hashes}), RECORD, 0o644)
    return len(new)


def _recorded(sftp: Sftp, target: PurePosixPath) -> dict[str, str]:
    """What an earlier push left; a file that is none says nothing."""
    with (
        contextlib.suppress(FileNotFoundError, msgspec.MsgspecError),
        sftp.open(str(target / RECORD)) as file,
    ):
        return msgspec.json.decode(file.read(), type=dict[str, str])
    return {}


def _make_folders(sftp: Sftp, folder: PurePosixPath, made: set[str]) -> None:
    for part in map(str, [*reversed(folder.parents), folder]):
        if part not in made:
            with contextlib.suppress(OSError):  # it is there; if not, the file that comes says so
                sftp.mkdir(part)
            made.add(part)
