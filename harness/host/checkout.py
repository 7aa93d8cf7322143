"""Which commit of its own source this program is."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """This checkout's commit, with `+` behind it if it was changed since; "" where it is no checkout."""
    if not _git("ls-files", "--error-unmatch", __file__):
        return ""  # installed, maybe below somebody else's checkout
    return _git("describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
