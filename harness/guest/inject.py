"""Putting the agent into a guest: a second initramfs segment behind the image's own.

The kernel unpacks concatenated segments one after the other (kernel:
driver-api/early-userspace/buffer-format.rst), so the image stays as it was built. The agent tells its own
hash in its hello; `expected_digest` is what it must be.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.agent import digest
from harness.image import cpio

AGENT = Path(__file__).resolve().parents[1] / "agent"
READY = "vsock-harness agent: ready"
"""The line that the agent prints on the console when it serves all links."""

_START = b"""#!/bin/sh
exec >/dev/ttyS0 2>&1 </dev/null
exec /usr/bin/python3 -I -S -B -c \\
	"import sys; sys.path.insert(0, '/vsock-harness'); from agent.__main__ import main; main()"
"""


def expected_digest() -> str:
    """What an agent that was injected from this checkout answers as its hash."""
    return digest(str(AGENT))


def segment() -> Iterator[cpio.Entry]:
    """The agent's files and the program that pid 1 starts."""
    yield cpio.folder("vsock-harness")
    yield cpio.folder("vsock-harness/agent")
    yield cpio.file("vsock-harness/start", _START, 0o755)
    for path in sorted(AGENT.glob("*.py")):
        yield cpio.file(f"vsock-harness/agent/{path.name}", path)


def write_initrd(base: Path, target: Path) -> None:
    """Write `base` and the agent's segment to `target`."""
    shutil.copyfile(base, target)
    with target.open("ab") as file:
        file.write(b"\0" * (-file.tell() % 512))
        cpio.write(file, segment())
