"""The keeper: ends what a run leaves behind, however the harness ended.

Started by `runfolder` as ``python -I -S keeper.py CHANNEL HOLDER LOCK FOLDER`` in a session of its own, so
it must stay a single file that needs the standard library only. It learns of processes over a seqpacket
socket (``own``, with the process's pidfd beside it: a pidfd can't come to mean another process,
pidfd_open(2)), and of the end by that socket's EOF or the holder's death, whichever comes first. A run's
processes are also known by their environment, which their own children inherit: nothing is missed when the
harness dies between starting a process and telling.

Then it kills, waits until they are gone, removes the folder, and what the links in ``FOLDER/owned`` point to.
What it can't do it says on stderr; exit code 1.
"""

from __future__ import annotations

import os
import re
import resource
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "VSOCK_HARNESS_RUN_FOLDER"
"""Environment variable that marks a run's processes; its value is the run folder's path."""

OWNED = "owned"
"""Folder of links to further folders that end with the run."""

PATIENCE = 30.0
"""Seconds to wait for killed processes; only a process stuck in the kernel needs more."""

LOOKS = 30
"""How often to look at a process without an environment before believing it."""

READY = b"ready"


def main(argv: list[str]) -> int:
    """Serve one run folder to its end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one pidfd a process
    channel = socket.socket(fileno=int(argv[0]))
    holder, folder = int(argv[1]), Path(argv[3])  # argv[2], the folder's lock, is only held
    channel.setblocking(False)
    channel.send(READY)
    trouble = clean(folder, _watch(channel, holder))
    for line in trouble:
        sys.stderr.write(f"vsock-harness keeper: {line}\n")
    return 1 if trouble else 0


def clean(folder: Path, owned: dict[int, int] | None = None) -> list[str]:
    """Kill the run's processes, wait for their end, remove its folders; what failed, a line each.

    :param owned: pidfd to pid of processes known to belong to the run, beside the marked ones.
    """
    trouble = [f"process {pid} did not end within {PATIENCE:.0f} s" for pid in _kill(folder, owned or {})]
    links = folder / OWNED
    for link in links.iterdir() if links.is_dir() else ():
        trouble += remove(link.readlink())
    # The links go last: were this process killed here, the next sweep still finds them.
    return trouble if trouble else remove(folder)


def remove(path: Path) -> list[str]:
    """Remove a tree; why not, if it can't be. Follows no link and enters no mount; absent is fine."""
    mounts = _mounts_below(path)
    if mounts:
        return [f"{path} not removed: {mounts[0]} is mounted there (umount it, then remove the folder)"]
    try:
        if not os.path.lexists(path):
            return []
        try:
            shutil.rmtree(path)
        except PermissionError:
            _make_writable(path)
            shutil.rmtree(path)
    except OSError as error:
        return [f"{path} not removed: {error}"]
    return []


def _watch(channel: socket.socket, holder: int) -> dict[int, int]:
    """Take part in the run until it ends; pidfd to pid of the processes that are left then."""
    owned: dict[int, int] = {}
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(holder, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        for pidfd in ready & set(owned):
            poll.unregister(pidfd)
            os.close(pidfd)
            del owned[pidfd]
        for pidfd, pid in _messages(channel):
            if pidfd < 0:
                return owned
            owned[pidfd] = pid
            poll.register(pidfd, select.POLLIN)
        if holder in ready:  # after the messages: it may have told of a process just before its end
            return owned


def _messages(channel: socket.socket) -> Iterator[tuple[int, int]]:
    """What has been told by now; (-1, 0) is the end."""
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(channel, 64, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds = b"", []
        if not data:
            yield -1, 0
            return
        if fds:  # none if there's no room for one more: the mark has to do then
            yield fds[0], int(data)


def _kill(folder: Path, owned: dict[int, int]) -> list[int]:
    """Kill until nothing of the run is left; the pids that outlast `PATIENCE`.

    Looks again after each round, as a process may have started another before it died.
    """
    end = time.monotonic() + PATIENCE
    while True:
        targets = {**{fd: pid for fd, pid in owned.items() if not _gone(fd)}, **marked(folder)}
        if not targets:
            return []
        if time.monotonic() >= end:
            return sorted(set(targets.values()))
        for pidfd, pid in targets.items():
            _kill_one(pidfd, pid)
        _wait_gone(list(targets), 1.0)
        for pidfd in set(targets) - set(owned):
            os.close(pidfd)


def _kill_one(pidfd: int, pid: int) -> None:
    """SIGKILL the process, and its group if it leads one."""
    try:
        if os.getpgid(pid) == pid and not _gone(pidfd):
            os.killpg(pid, signal.SIGKILL)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        pass  # it outlasts PATIENCE then, and is named


def marked(folder: Path) -> dict[int, int]:
    """Pidfd (the caller's, to close) to pid of the processes whose environment bears this run's mark."""
    mark = os.fsencode(f"{MARK}={folder}")
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        if mark in _environment(entry, pidfd) and not _gone(pidfd):
            found[pidfd] = int(entry.name)
        else:
            os.close(pidfd)
    return found


def _environment(entry: Path, pidfd: int) -> list[bytes]:
    """The process's environment; empty if it's another user's, or has ended.

    It also reads as empty for a moment around execve(2), when the old memory has gone or the new has no
    environment yet. So what has memory but no environment is looked at again, or many a process
    that was just started would be missed.
    """
    try:
        for _ in range(LOOKS):
            found = (entry / "environ").read_bytes()
            if found or (entry / "statm").read_bytes().startswith(b"0 "):  # none: a kernel thread, a zombie
                return found.split(b"\0")
            if _wait_gone([pidfd], 0.002):
                break
    except OSError:
        pass
    return []


def _gone(pidfd: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _wait_gone(pidfds: list[int], seconds: float) -> bool:
    """Return once all have ended, or after `seconds`; whether they have."""
    end = time.monotonic() + seconds
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left and time.monotonic() < end:
        for pidfd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000):
            poll.unregister(pidfd)
            left -= 1
    return not left


def _mounts_below(path: Path) -> list[str]:
    """Mount points at or below `path`: to remove a tree through a bind mount would remove its source."""
    top = path.resolve()
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            # proc_pid_mountinfo(5): blanks and backslashes are written in octal
            point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4])
            if Path(point).is_relative_to(top):
                found.append(point)
    return found


def _make_writable(path: Path) -> None:
    """Give the owner the right to remove what lies in read-only folders (a guest's root has some)."""
    path.chmod(0o700)
    for top, names, _ in os.walk(path):
        for name in names:
            below = Path(top, name)
            if not below.is_symlink():
                below.chmod(0o700)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
