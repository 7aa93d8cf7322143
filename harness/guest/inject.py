"""Putting the agent into a guest: a second initramfs segment behind the image's own.

The kernel unpacks concatenated segments one after the other (kernel:
driver-api/early-userspace/buffer-format.rst), so the image stays as it was built. The agent tells its own
hash in its hello; `expected_digest` is what it must be.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness.agent import digest
from harness.image import cpio

AGENT = Path(__file__).resolve().parents[1] / "agent"
READY = "vsock-harness agent: ready"
"""The line that the agent prints on the console when it serves all links."""

_MAIN = "import sys; sys.path.insert(0, '{folder}'); from agent.__main__ import main; main()"

_START = f"""#!/bin/sh
exec >/dev/ttyS0 2>&1 </dev/null
exec /usr/bin/python3 -I -S -B -c \\
	"{_MAIN.format(folder="/vsock-harness")}"
""".encode()


def expected_digest() -> str:
    """What an agent that was injected from this checkout answers as its hash."""
    return digest(str(AGENT))


def command(folder: PurePosixPath) -> list[str]:
    """The words that run the agent whose files are in `folder`/agent, in a guest that has python3."""
    return ["/usr/bin/python3", "-I", "-S", "-B", "-c", _MAIN.format(folder=folder)]


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
