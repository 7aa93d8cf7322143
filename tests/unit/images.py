"""Images of which only a little is looked at."""

from __future__ import annotations

from pathlib import Path

from harness.image.store import Image, Manifest


def image(path: Path, name: str, *, kind: str = "tree", identity: str = "0") -> Image:
    """An image at `path`, whose manifest names no packages and no files."""
    return Image(path, Manifest(name, identity, kind, "trixie", "", "2026", 0.0, 0, (), {}))
