"""A folder as a tar archive in memory, there and back."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def packed(folder: Path, name: str) -> bytes:
    """`folder` with all in it, as an archive in which it is called `name`.

    :raise OSError: it can't be read.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder, arcname=name)
    return out.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Lay out in `folder` what an archive holds, of whatever compression; nothing gets out of there.

    :raise OSError: when that fails.
    :raise tarfile.TarError: it is no such archive.
    """
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Debian 12's Python 3.11.2
        tar.extractall(folder)
