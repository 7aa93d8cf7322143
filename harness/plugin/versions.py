"""What a run was made of, for the record."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import msgspec

from harness.host.checkout import commit
from harness.image.store import Store
from harness.report.results import Versions


def write(store: Store, path: Path, guest: str) -> None:
    """Write what is known now, as JSON; `guest` is the image of the run's pods."""
    names = ("qemu", "lab", guest, "proxy", "programs", "vhost-device-vsock")
    found = (store.find(name) for name in names)
    images = {image.name: f"{image.id} {image.manifest.kernel}".strip() for image in found if image}
    versions = Versions(
        harness=version("vsock-harness"),
        commit=commit(),
        python=platform.python_version(),
        kernel=platform.release(),
        pytest=version("pytest"),
        images=images,
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(versions)) + b"\n")
