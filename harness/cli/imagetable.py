"""The table of ``vsock-harness images list``."""

from __future__ import annotations

import datetime
import shutil
import sys
from typing import Literal

import msgspec

from harness.image import recipe
from harness.image.store import Image

_HEADS = ("name", "id", "state", "suite", "kernel", "size", "age", "packages", "path")
_TO_THE_RIGHT = {"size", "age", "packages"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image, or a recipe that has none today."""

    name: str
    id: str
    state: Literal["current", "old", "missing", "on-demand"]
    suite: str
    kernel: str = ""
    bytes: int = 0
    built: str = ""
    packages: int = 0
    path: str = ""

    @classmethod
    def of(cls, image: Image, *, current: bool) -> Row:
        """The row of an image that is there."""
        manifest = image.manifest
        return cls(
            name=manifest.name,
            id=manifest.id,
            state="current" if current else "old",
            suite=manifest.suite,
            kernel=manifest.kernel,
            bytes=manifest.bytes,
            built=manifest.built,
            packages=len(manifest.packages),
            path=str(image.path),
        )

    @classmethod
    def missing(cls, name: str) -> Row:
        """The row of what nobody has built: today's recipe asks for it, or somebody may."""
        made = recipe.load(name)
        state: Literal["missing", "on-demand"] = "on-demand" if made.on_demand else "missing"
        return cls(name=name, id=recipe.identity(name), state=state, suite=made.suite)

    @property
    def age(self) -> str:
        """How long ago it was built."""
        if not self.built:
            return ""
        then = datetime.datetime.fromisoformat(self.built)
        return span((datetime.datetime.now(datetime.UTC) - then).total_seconds())

    def as_data(self) -> dict[str, object]:
        """What ``--json`` prints."""
        data: dict[str, object] = msgspec.to_builtins(self)
        return data

    def cells(self) -> list[str]:
        """The texts of the columns."""
        there = bool(self.path)
        counts = [size(self.bytes), self.age, str(self.packages)] if there else ["", "", ""]
        return [self.name, self.id, self.state, self.suite, self.kernel or "-", *counts, self.path]


def table(rows: list[Row]) -> str:
    """The rows below a line of heads; a path that does not fit the terminal has a line of its own."""
    grid = [list(_HEADS), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(_HEADS))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sum(widths) + 2 * len(widths)
    folded = sum(widths) + 2 * (len(widths) - 1) > room
    lines = []
    for cells in grid:
        padded = [
            cell.rjust(width) if head in _TO_THE_RIGHT else cell.ljust(width)
            for head, cell, width in zip(_HEADS, cells, widths, strict=True)
        ]
        text = "  ".join(padded[:-1] if folded else padded).rstrip()
        lines.append(text)
        if folded and cells[-1] and cells[0] != _HEADS[0]:
            lines.append(f"  {cells[-1]}")
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes for people, in MiB; small things in KiB."""
    return f"{count / 2**20:.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**10:.0f} KiB"


def span(seconds: float) -> str:
    """A length of time for people, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
