"""Where this program keeps what outlives a run (the cache) and what doesn't (run folders).

Unix socket paths must fit `sun_path`: 108 bytes with the closing NUL (unix(7)). So run folders lie in a
short place, never in the checkout, and every socket path is made by `socket_path`, which checks.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.model.errors import InfrastructureError, UsageError

PROGRAM = "vsock-harness"
SUN_PATH_BYTES = 108
"""Size of `sun_path`, NUL included (unix(7))."""

SHARED_IMAGES = Path("/var/lib/vsock-harness/images")
"""Where a host may have images for all its users; a lab has its own there."""

_log = logging.getLogger(__name__)

LONGEST_BASE = 48
"""Bytes a place for run folders may have: leaves 50 for a socket's name below an 8-letter folder."""


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CACHE_HOME/vsock-harness``, by default ``~/.cache/vsock-harness``. Makes nothing.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification wants, and said to be, once.
    An empty HOME is none: the user's is then that of the password database.

    :raise UsageError: when neither XDG_CACHE_HOME nor a home folder is known.
    """
    env = os.environ if environ is None else environ
    named = env.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named) / PROGRAM
    if named:
        _say_ignored(named)
    home = env.get("HOME", "")
    if not home and environ is None:
        with contextlib.suppress(KeyError):  # a user without an entry has none
            home = pwd.getpwuid(os.getuid()).pw_dir
    if not Path(home).is_absolute():
        raise UsageError(
            "no cache folder: HOME is not set and XDG_CACHE_HOME is not an absolute path",
            hint="export XDG_CACHE_HOME=/some/folder",
        )
    return Path(home) / ".cache" / PROGRAM


@functools.cache
def _say_ignored(named: str) -> None:
    _log.warning("XDG_CACHE_HOME=%s is ignored: it is not an absolute path", named)


class Cache:
    """What is kept between runs: images, answers of probes, saved labs. Safe to delete when nothing runs."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_root() if root is None else root

    def folder(self, name: str) -> Path:
        """The folder `name` in the cache, made (mode 0700) if it is missing.

        :raise InfrastructureError: when it can't be made.
        """
        path = self.root / name
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"cannot make the cache folder {path}: {error.strerror}",
                hint="point XDG_CACHE_HOME at a folder that you may write to",
            ) from error
        return path


def from_here(path: Path) -> Path:
    """`path` as it reads from the working directory, if it is in it; a user can copy either."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def socket_path(folder: Path, name: str) -> Path:
    """`folder`/`name`, guaranteed to fit a Unix socket address.

    :raise InfrastructureError: when it's longer than 107 bytes; says by how much.
    """
    if not name or "/" in name or name in {".", ".."}:
        raise UsageError(f"not a socket's name: {name!r}", hint="give a plain file name")
    path = folder / name
    length = len(os.fsencode(path))
    if length >= SUN_PATH_BYTES:
        raise InfrastructureError(
            f"socket path of {length} bytes, {SUN_PATH_BYTES - 1} is the most (unix(7)): {path}",
            hint="use a run folder in a shorter place (TMPDIR=/tmp) or a shorter name",
        )
    return path


def run_bases(environ: Mapping[str, str] | None = None, uid: int | None = None) -> Iterator[Path]:
    """Places for this user's run folders, best first. Makes nothing; all are short and absolute.

    TMPDIR comes first because somebody chose it; /tmp before XDG_RUNTIME_DIR, because the latter is a
    small tmpfs and goes away when the user logs out while a run goes on. Too long ones are left out.
    """
    env = os.environ if environ is None else environ
    owner = os.getuid() if uid is None else uid
    seen = set[Path]()
    for parent in (env.get("TMPDIR", ""), "/tmp", env.get("XDG_RUNTIME_DIR", ""), "/var/tmp"):
        base = Path(parent) / f"{PROGRAM}-{owner}"
        if Path(parent).is_absolute() and len(os.fsencode(base)) <= LONGEST_BASE and base not in seen:
            seen.add(base)
            yield base


def private_base(environ: Mapping[str, str] | None = None) -> Path:
    """The first of `run_bases` that is, or can be made, a folder of ours that nobody else may enter.

    /tmp is everybody's: a link, another user's folder or an open mode at that name is refused.

    :raise InfrastructureError: when none will do; says why, one line each.
    """
    refused: list[str] = []
    for base in run_bases(environ):
        reason = _make_private(base)
        if not reason:
            return base
        refused.append(f"{base}: {reason}")
    raise InfrastructureError(
        "no place for run folders",
        detail="\n".join(refused),
        hint=f"export TMPDIR=/some/folder of yours, at most {LONGEST_BASE - 25} bytes long",
    )


def _make_private(base: Path) -> str:
    """Make `base` if needed; "" if it's ours and private, else why not."""
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        seen = base.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(seen.st_mode):
        return "is not a folder"
    if seen.st_uid != os.getuid():
        return f"belongs to user {seen.st_uid}"
    if seen.st_mode & 0o077:
        return f"others may enter it (mode {stat.S_IMODE(seen.st_mode):04o})"
    if not os.access(base, os.W_OK | os.X_OK):
        return "is not writable"
    return ""
