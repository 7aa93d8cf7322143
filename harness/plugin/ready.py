"""What is done in a lab before it is saved: a template is made, and interpreters are warmed up.

Run there as ``python3 -m harness.plugin.ready IMAGES DIGEST GUEST``: IMAGES is the folder of guest images,
DIGEST the hash of the code that runs (`harness.lab.deploy.code_digest`), GUEST the image of the template.
What it logs goes to /tmp.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.host.paths import cache_root
from harness.image.store import Store
from harness.lab import warm
from harness.model.spec import Accel
from harness.run import place, templates

OF_PACKAGES = [
    "asyncio",
    "execnet.gateway_base",
    "msgspec.json",
    "qemu.qmp",
    "ruamel.yaml",
    "xdist.remote",
    "xdist.plugin",
]
"""Of the lab's image: what a worker needs of other people's packages, and of the standard library with
them."""

OURS = [
    "harness.plugin",
    "harness.plugin.bench",
    "harness.plugin.fixtures",
    "harness.plugin.item",
    "harness.run.nursery",
    "harness.link.connect",
]


def main(argv: list[str]) -> int:
    """Make the lab ready; returns when all of it stands.

    :raise HarnessError: it can't be; says why.
    """
    images, digest, guest = argv
    _serve(warm.PACKAGES, *OF_PACKAGES)
    _serve(digest, *OF_PACKAGES, *OURS)
    asyncio.run(_template(Path(images), guest))
    return 0


def _serve(name: str, *modules: str) -> None:
    """A warm interpreter, in a process that has imported nothing else (see `warm.serve`)."""
    subprocess.run([sys.executable, "-P", warm.__file__, "serve", warm.SOCKETS, name, *modules], check=True)


async def _template(images: Path, guest: str) -> None:
    store = Store(cache_root(), extra=(images,))
    logs = Path(tempfile.mkdtemp(prefix="ready-"))
    with place.opened(store, accel=Accel.KVM, templates=templates.folder(), image=guest) as here:
        async with templates.held(here, logs):
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
