"""Programs out of an unpacked Debian tree, run without root, chroot or installation."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from pathlib import Path

from harness.model.errors import InfrastructureError

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_CLEANS_UP_WITHIN = 20.0
"""Seconds for a build step to end and remove what it made, once told to."""

LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")


def command(tree: Path, program: str, *, argv0: str | None = None) -> list[str]:
    """The argv prefix that runs `program` (a path inside `tree`) by the tree's own dynamic loader.

    The loader's `--library-path` and `--argv0` are described in ld.so(8); the program thus sees its own
    release's libc whatever the machine has installed.
    """
    return [*_loaded(tree, LOADER), "--argv0", argv0 or Path(program).name, str(tree / program)]


def plain(tree: Path, program: str) -> list[str]:
    """The same for a program of any release that need not know its own name: argv[0] is its path.

    ld.so knows --argv0 since glibc 2.33, and up to bookworm its link in usr/lib64 is absolute.
    """
    return [*_loaded(tree, f"{LIBRARIES[0]}/{Path(LOADER).name}"), str(tree / program)]


def _loaded(tree: Path, loader: str) -> list[str]:
    return [str(tree / loader), "--library-path", ":".join(str(tree / folder) for folder in LIBRARIES)]


_APART = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--", "setsid")
"""Its mounts and all processes that it starts end with it, even by SIGKILL (unshare(1))."""


def run(argv: list[str], what: str, *, env: dict[str, str] | None = None, mounts: bool = False) -> str:
    """Run a build step to its end and return its output.

    It gets a session of its own, because mmdebstrap sends SIGHUP to its whole process group when it fails. It
    ends with this process; when an exception comes through here, by SIGTERM, so that it can clean up.

    :param mounts: it mounts and starts daemons: by root it is run where these end with it, and can then be
        ended by SIGKILL at once. By others it has to clean up, as has mmdebstrap, which makes itself a user's
        own root.
    :raise InfrastructureError: with the command's output when it fails, or when it can't be started.
    """
    apart = _APART if mounts and _is_apart() else ()
    try:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *apart, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise InfrastructureError(f"{what}: {argv[0]} could not be started: {error.strerror}") from error
    with process:
        try:
            said, _ = process.communicate()
        except BaseException:
            _end(process, at_once=bool(apart))
            raise
    if process.returncode:
        raise InfrastructureError(
            f"{what}: {Path(argv[0]).name} ended with {process.returncode}", detail=said[-3000:]
        )
    return said


@functools.cache
def _is_apart() -> bool:
    """Whether we may make such namespaces: root in a container may not."""
    if os.getuid() != 0:
        return False
    try:
        return subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _end(process: subprocess.Popen[str], *, at_once: bool) -> None:
    os.killpg(process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
    try:
        process.communicate(timeout=_CLEANS_UP_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
