"""A run's private folder, and the end of everything in it, however the run ends."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.host import keeper, paths
from harness.model.errors import HostUnfit, InfrastructureError

_log = logging.getLogger(__name__)

_KEEPER_STARTS_WITHIN = 60.0
"""Seconds; it takes 0.02 on a desktop. EOF comes at once if it can't start at all."""


class RunFolder:
    """A short private folder for one run's sockets and scratch, and what belongs to the run.

    Whatever ends the run, SIGKILL included, the run's keeper kills the processes given to `own` and those
    that bear `mark`, and removes the folder and those given to `own_folder`. If the keeper is killed
    as well, the next `create` on this machine sweeps up, except processes that bear no mark.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Not for callers: use `create`."""
        self.path = path
        self._lock = lock
        self._pid = os.getpid()
        self._numbers = itertools.count()
        self._channel, self._keeper = _start_keeper(path, lock)

    @classmethod
    @contextlib.contextmanager
    def create(cls, base: Path | None = None) -> Iterator[RunFolder]:
        """A new folder for the time of the `with`; sweeps up first what dead runs left.

        On leaving, all that the run owns has ended and is removed.

        :param base: where to make it; by default `paths.private_base`.
        :raise InfrastructureError: no place for it, no keeper; on leaving, if something could not be removed.
        """
        place = paths.private_base() if base is None else base
        cls.sweep(place)
        path, lock = _make_locked(place)
        try:
            folder = cls(path, lock)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            raise
        try:
            yield folder
        except BaseException as error:
            for line in folder._end():
                error.add_note(line)
            raise
        trouble = folder._end()
        if trouble:
            raise InfrastructureError("the run left something behind", detail="\n".join(trouble))

    @classmethod
    def sweep(cls, base: Path) -> list[Path]:
        """Clean up after runs below `base` whose harness and keeper are both gone.

        What can't be removed is a warning in the log, each time: it need not stop the next run.

        :return: the folders removed.
        """
        swept = []
        for path, lock in _dead(base):
            try:
                trouble = keeper.clean(path)
            finally:
                os.close(lock)
            for line in trouble:
                _log.warning("cleaning up after the dead run %s: %s", path, line)
            if not trouble:
                swept.append(path)
        return swept

    @property
    def mark(self) -> dict[str, str]:
        """Environment that makes a process, and its children, end with this run."""
        return {keeper.MARK: str(self.path)}

    def own(self, pid: int) -> None:
        """Make the process end with this run; its whole group if it leads one.

        :param pid: a child that has not been waited for, so that the number can't mean another.
        :raise InfrastructureError: when the keeper is gone.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            socket.send_fds(self._channel, [str(pid).encode()], [pidfd])
        except OSError as error:
            raise InfrastructureError(
                f"the run's keeper (process {self._keeper.pid}) is gone: {error.strerror}",
                hint="somebody killed it; start the run again",
            ) from error
        finally:
            os.close(pidfd)

    def own_folder(self, path: Path) -> None:
        """Remove the folder `path` when this run ends. It need not exist, now or then."""
        (self.path / keeper.OWNED / f"{next(self._numbers)}").symlink_to(path.absolute())

    def disown_folder(self, path: Path) -> None:
        """Take back `own_folder`: the folder is somebody else's now (published, kept)."""
        for link in (self.path / keeper.OWNED).iterdir():
            if link.readlink() == path.absolute():
                link.unlink()

    def socket(self, name: str) -> Path:
        """A path in this folder for a Unix socket, short enough to be one (see `paths.socket_path`)."""
        return paths.socket_path(self.path, name)

    def _end(self) -> list[str]:
        """End the run and wait for the keeper to have cleaned up; what went wrong, a line each."""
        if os.getpid() != self._pid:
            return []  # a forked child that unwinds must not end its parent's run
        self._channel.shutdown(socket.SHUT_RDWR)  # EOF even if a forked child holds a copy
        self._channel.close()
        code = self._keeper.wait()
        try:
            if code == 0:
                return []
            if code < 0:
                return [f"the keeper was killed by signal {-code}", *keeper.clean(self.path)]
            return [f"the keeper could not clean up {self.path}; see its lines on stderr"]
        finally:
            os.close(self._lock)


def _start_keeper(path: Path, lock: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A running keeper that has said so, and the channel to it."""
    try:
        holder = os.pidfd_open(os.getpid())
    except (OSError, AttributeError) as error:
        raise HostUnfit(
            f"no process file descriptors here: {error}", ability="pidfd", hint="Linux 5.3 or later is needed"
        ) from error
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = (theirs.fileno(), holder, lock)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, *map(str, fds), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=fds,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != keeper.MARK},
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise InfrastructureError(f"cannot start the keeper with {sys.executable}: {error}") from error
    finally:
        theirs.close()
        os.close(holder)
    ours.settimeout(_KEEPER_STARTS_WITHIN)
    try:
        said = ours.recv(64)
    except OSError:
        said = b""
    if said != keeper.READY:
        ours.close()
        process.kill()
        raise InfrastructureError(f"the keeper did not start (exit code {process.wait()}); see stderr")
    ours.settimeout(None)
    return ours, process


@contextlib.contextmanager
def _base_lock(base: Path) -> Iterator[None]:
    """Held while a folder is made and locked, and while dead ones are looked for."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_locked(base: Path) -> tuple[Path, int]:
    """A new folder below `base`, and the fd that holds its lock. The keeper inherits the fd."""
    with _base_lock(base):
        path = Path(tempfile.mkdtemp(prefix="", dir=base))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    (path / keeper.OWNED).mkdir()
    return path, lock


def _dead(base: Path) -> list[tuple[Path, int]]:
    """Folders below `base` that nobody held, each with the lock that holds it now."""
    found = []
    with _base_lock(base):
        for path in sorted(base.iterdir()):
            try:
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # gone meanwhile, or not a run folder
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                found.append((path, lock))
    return found
