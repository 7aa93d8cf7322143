"""The folders of runs: ``results/20260102-030405-ab12``, and ``latest``, which leads to the newest."""

from __future__ import annotations

import datetime
import re
import secrets
import shutil
import time
from collections import Counter
from pathlib import Path

import msgspec

from harness.host.depot import free_bytes
from harness.model.errors import InfrastructureError, UsageError
from harness.report.results import RUN, Run

LATEST = "latest"

_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_MANY = 50
_LEAST = 1 << 20
"""Bytes that must be free: a whole catalogue leaves four times as many, a single item a tenth."""

_TRIED = 128

_MAY_GO_ON = 24 * 3600.0
"""Seconds for which a run that has written no end, and nothing else, is not taken for dead."""


def new(parent: Path) -> Path:
    """A new folder for a run in `parent`, and `latest` leading to it.

    It is written to at once: what can't be is told before a host is made ready, not minutes later.

    :raise UsageError: it can't be made, or nothing can be written there.
    """
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = parent / f"{stamp}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
        _try(folder)
        link = parent / f".{folder.name}"
        link.symlink_to(folder.name)
        link.rename(parent / LATEST)  # in one step: another run may do the same
    except OSError as error:
        raise UsageError(f"no results folder in {parent}: {error.strerror}", hint="--results DIR") from error
    return folder


def _try(folder: Path) -> None:
    """:raise UsageError: nothing can be written there, or so little that no run has room; it is removed."""
    file, why = folder / ".room", ""
    try:
        file.write_bytes(bytes(_TRIED))
        file.unlink()
        free = free_bytes(folder)
        why = f"{free >> 10} KiB are free" if free < _LEAST else ""
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        shutil.rmtree(folder, ignore_errors=True)
        hint = "--results DIR names a folder elsewhere; vsock-harness results prune makes room"
        raise UsageError(f"nothing can be written to {folder.parent}: {why}", hint=hint)


class Past(msgspec.Struct, frozen=True):
    """A run's folder; `run` is None where the run has written no end."""

    path: Path
    run: Run | None

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if path.is_file())

    @property
    def counts(self) -> dict[str, int]:
        """How many tests ended how, the most first."""
        return dict(Counter(case.outcome.value for case in self.run.cases).most_common()) if self.run else {}

    @property
    def may_go_on(self) -> bool:
        """Whether the run may not be over: it has written no end, but something within a day."""
        if self.run is not None:
            return False
        newest = max(path.lstat().st_mtime for path in [self.path, *self.path.rglob("*")])
        return time.time() - newest < _MAY_GO_ON

    def remove(self) -> None:
        """Remove it.

        :raise InfrastructureError: it can't be removed.
        """
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise InfrastructureError(f"{self.path} can't be removed: {error.strerror}") from error


def runs(parent: Path) -> list[Past]:
    """Those in `parent`, the newest first. What is named otherwise is the user's own, and none."""
    names = parent.iterdir() if parent.is_dir() else ()
    found = [path for path in names if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return [Past(path, _run(path)) for path in sorted(found, reverse=True)]


def many(parent: Path) -> str:
    """What to say of `parent` where so many runs are kept that a user may want to know it."""
    count = sum(1 for path in parent.iterdir() if _NAME.fullmatch(path.name))
    return f" ({count} runs are kept there: vsock-harness results prune)" if count >= _MANY else ""


def older(parent: Path, keep: int) -> list[Past]:
    """Those behind the `keep` newest, but for what `latest` leads to, and a run that may go on."""
    latest = (parent / LATEST).resolve()
    return [past for past in runs(parent)[keep:] if past.path.resolve() != latest and not past.may_go_on]


def _run(path: Path) -> Run | None:
    try:
        return msgspec.json.decode((path / RUN).read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError):
        return None
