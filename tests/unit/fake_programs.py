"""A PATH of fake programs."""

from __future__ import annotations

import os
from pathlib import Path

BASE = f"{os.defpath}:/usr/local/bin"


class Programs:
    """A PATH of fakes: each writes its arguments into `log`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.log = folder / "log"

    def add(self, *names: str, body: str = "") -> None:
        for name in names:
            path = self.folder / name
            path.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {self.log}\n{body}\n')
            path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
