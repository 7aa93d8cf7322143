"""Files that are there whole or not at all, as on a disk that fills up."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Make `path` hold `data`; it has its name only when all is written, and what it was before until then.

    :raise OSError: when that fails; names `path`.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
