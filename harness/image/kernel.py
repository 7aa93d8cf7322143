"""Kernels and modules out of Debian's packages."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable
from pathlib import Path

from harness.image import tree as trees
from harness.model.errors import InfrastructureError, UsageError

_SETUP_SECTS, _PAYLOAD_OFFSET = 0x1F1, 0x248
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LZ4_MAGIC = b"\x02\x21\x4c\x18"
"""Of lz4's legacy format, which is the kernel's (`lz4 -l`)."""


def version(tree: Path) -> str:
    """The release name of the one kernel in `tree`.

    :raise InfrastructureError: when there is none, or more than one.
    """
    found = sorted(path.name for path in (tree / "usr/lib/modules").glob("*") if (path / "kernel").is_dir())
    if len(found) != 1:
        raise InfrastructureError(f"one kernel was wanted in {tree}, found: {', '.join(found) or 'none'}")
    return found[0]


def bzimage(tree: Path) -> Path:
    """The one kernel in `tree`: in boot, or beside its modules, where packages have it since forky.

    :raise InfrastructureError: there is none.
    """
    found = [*(tree / "boot").glob("vmlinuz-*"), tree / "usr/lib/modules" / version(tree) / "vmlinuz"]
    there = next((path for path in found if path.is_file()), None)
    if there is None:
        raise InfrastructureError(f"no kernel in {tree}: neither boot/vmlinuz-* nor {found[-1]}")
    return there


def unpack_vmlinux(bzimage: Path, vmlinux: Path, scratch: Path, root: Path) -> None:
    """Write the ELF kernel that a bzImage carries compressed, so that a PVH boot skips the decompression.

    Releases up to bookworm pack theirs by lz4: where that is so the unpacked tree `root` must have the
    program, by the package lz4.

    The payload's place is in the setup header (kernel: Documentation/arch/x86/boot.rst, payload_offset and
    payload_length, relative to the protected-mode code).

    :raise InfrastructureError: when the payload is neither of the three, or holds no ELF file.
    """
    image = bzimage.read_bytes()
    start = ((image[_SETUP_SECTS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_OFFSET)
    payload = image[start + offset : start + offset + length]
    if payload.startswith(_ZSTD_MAGIC):
        packed = scratch / "vmlinux.zst"
        packed.write_bytes(payload[:-4])  # the last four bytes are the unpacked size, not zstd's
        trees.run(["zstd", "-dqf", str(packed), "-o", str(vmlinux)], "unpacking the kernel")
        packed.unlink()
    elif payload.startswith(_LZ4_MAGIC):
        packed = scratch / "vmlinux.lz4"
        packed.write_bytes(payload[:-4])
        lz4 = trees.plain(root, "usr/bin/lz4")
        trees.run([*lz4, "-dqf", str(packed), str(vmlinux)], "unpacking the kernel")
        packed.unlink()
    elif payload.startswith(b"\xfd7zXZ"):
        vmlinux.write_bytes(lzma.LZMADecompressor().decompress(payload))
    else:
        raise InfrastructureError(
            f"{bzimage}: the kernel's payload is neither zstd, xz nor lz4: {payload[:4].hex()}"
        )
    with vmlinux.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise InfrastructureError(f"{bzimage}: what it carries is no ELF kernel")


class Modules:
    """The modules of one kernel in an unpacked tree, found by name, with what they depend on."""

    def __init__(self, tree: Path) -> None:
        self._root = tree / "usr/lib/modules" / version(tree)
        self._paths = {
            path.name.split(".")[0].replace("-", "_"): path
            for path in self._root.rglob("*.ko*")
            if path.is_file()
        }
        builtin = self._root / "modules.builtin"
        lines = builtin.read_text().split() if builtin.exists() else []
        self._builtin = {Path(line).name.split(".")[0].replace("-", "_") for line in lines}

    def in_order(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """`names` and all they depend on, unpacked, each after its dependencies; built-in ones are left out.

        :raise UsageError: for a name that the kernel has neither as a module nor built in.
        """
        done: dict[str, bytes] = {}

        def add(name: str) -> None:
            name = name.replace("-", "_")
            if name in done or name in self._builtin:
                return
            if name not in self._paths:
                raise UsageError(f"kernel {self._root.name} has no module {name!r}")
            data = read_module(self._paths[name])
            for dependency in _depends(data):
                add(dependency)
            done[name] = data

        for name in names:
            add(name)
        return list(done.items())


def read_module(path: Path) -> bytes:
    """A module's ELF bytes, whether it is stored plain or as .xz."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _depends(module: bytes) -> list[str]:
    at = module.find(b"\0depends=")
    if at < 0:
        return []
    text = module[at + 9 : module.index(b"\0", at + 9)].decode()
    return [name for name in text.split(",") if name]
