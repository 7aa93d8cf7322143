"""What is mounted in a folder that is to be removed."""

from __future__ import annotations

import re
from pathlib import Path


def below(path: Path) -> list[str]:
    """Mount points at or below `path`: to remove a tree through a bind mount would remove its source.

    As in `harness.host.keeper`, which imports nothing of ours.
    """
    top = path.resolve()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        # proc_pid_mountinfo(5): blanks and backslashes are written in octal
        points = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in file]
    return [point for point in points if Path(point).is_relative_to(top)]
