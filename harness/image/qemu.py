"""QEMU out of an image."""

from __future__ import annotations

from pathlib import Path

from harness.image import tree
from harness.image.store import Image
from harness.model.spec import Qemu

PROGRAM = "usr/bin/qemu-system-x86_64"


def of_image(image: Image) -> Qemu:
    """The QEMU in a `tree` image: run by its own loader, with its own firmware and modules."""
    root = image.file("tree")
    package = next((item for item in image.manifest.packages if item.name == "qemu-system-x86"), None)
    return Qemu(
        argv=(*tree.command(root, PROGRAM), *firmware(root)),
        env={"QEMU_MODULE_DIR": str(root / "usr/lib/x86_64-linux-gnu/qemu")},
        version=package.version if package else "unknown",
    )


def firmware(root: Path) -> tuple[str, ...]:
    """QEMU's options for where its firmware lies in an unpacked tree."""
    return ("-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios"))
