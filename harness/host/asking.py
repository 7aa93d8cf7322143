"""Asking a program that prints something and ends by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from harness.host.speed import slowness


def ask(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a program prints.

    :param env: variables beside this process's own.
    :raise OSError: it can't be started.
    :raise subprocess.SubprocessError: it fails or hangs.
    """
    return subprocess.run(
        argv,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
        timeout=20 * slowness(),
    ).stdout
