"""Programs out of an unpacked Debian tree, run without root, chroot or installation."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.model.errors import InfrastructureError

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")


def command(tree: Path, program: str, *, argv0: str | None = None) -> list[str]:
    """The argv prefix that runs `program` (a path inside `tree`) by the tree's own dynamic loader.

    The loader's `--library-path` and `--argv0` are described in ld.so(8); the program thus sees its own
    release's libc whatever the machine has installed.
    """
    libraries = ":".join(str(tree / folder) for folder in LIBRARIES)
    return [
        str(tree / LOADER),
        "--library-path",
        libraries,
        "--argv0",
        argv0 or Path(program).name,
        str(tree / program),
    ]


def run(argv: list[str], what: str, *, env: dict[str, str] | None = None) -> str:
    """Run a build step to its end and return its output.

    :raise InfrastructureError: with the command's output when it fails, or when it can't be started.
    """
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=env, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise InfrastructureError(f"{what}: {argv[0]} could not be started: {error.strerror}") from error
    if done.returncode:
        raise InfrastructureError(
            f"{what}: {Path(argv[0]).name} ended with {done.returncode}",
            detail=(done.stdout + done.stderr)[-3000:],
        )
    return done.stdout
