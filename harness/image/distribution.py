"""A distribution's own guest: installed as its packages want it, with their maintainer scripts."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from harness.image import build as base
from harness.image import cpio, finish, kernel, recipe, store, tree
from harness.model.progress import Progress

_UNITS = "etc/systemd/system"
_WANTED = {"systemd-networkd.service": "multi-user.target"}
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "getty@tty1.service",
    "sshd-keygen.service",
)
"""What works minutes after the boot, a login nobody sees, further host keys (RSA takes half a minute)."""

_GONE = ("var/cache/apt", "var/lib/apt/lists", "boot")


def build(name: str, identity: str, folder: Path, scratch: Path, progress: Progress) -> store.Manifest:
    """As `harness.image.build.build`, for a recipe of kind "distribution".

    The image holds ``vmlinux``, ``initrd``, ``root.erofs``, and all that again in `image.erofs` for a lab's
    drive. It knows no keys: they come behind the initramfs as a further segment.
    """
    base.check_tools()
    begun = time.monotonic()
    wish = recipe.load(name, folder)
    out, root = scratch / "out", scratch / "root"
    out.mkdir()
    root.mkdir()
    with progress.stage(f"image {name}: installing Debian {wish.suite}"):
        contents = _install(wish, scratch, root)
    with progress.stage(f"image {name}: kernel, initramfs and root"):
        release = kernel.version(root)
        kernel.unpack_vmlinux(next((root / "boot").glob("vmlinuz-*")), out / "vmlinux", scratch, root)
        _write_initrd(wish, folder / name, root, out / "initrd")
        _settle(root, folder / name)
        pack = ["mkfs.erofs", "--all-root", "-T0", str(out / "root.erofs"), str(root)]
        tree.run(pack, "packing the root")
    manifest = finish.manifest(name, identity, wish, contents, release)
    with progress.stage(f"image {name}: hashes"):
        return finish.finished(manifest, out, scratch, begun=begun)


def _install(wish: recipe.Recipe, scratch: Path, root: Path) -> tuple[store.Package, ...]:
    """Have mmdebstrap install the packages; what was installed."""
    archive = scratch / "root.tar"
    argv = ["mmdebstrap", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in wish.drop]
    argv += [f"--include={','.join(wish.packages)}", wish.suite, str(archive)]
    env = {**os.environ, "TMPDIR": str(scratch)} if os.getuid() == 0 else None
    tree.run(argv, f"installing Debian {wish.suite}", env=env, mounts=True)
    unpack = ["tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-C", str(root), "-f", str(archive)]
    tree.run(unpack, "unpacking it")
    archive.unlink()
    return _installed((root / "var/lib/dpkg/status").read_text())


def _installed(status: str) -> tuple[store.Package, ...]:
    """Names and versions of dpkg's status file (deb822(5))."""
    found = []
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(store.Package(name=fields["Package"], version=fields["Version"]))
    return tuple(sorted(found))


def _write_initrd(wish: recipe.Recipe, source: Path, root: Path, target: Path) -> None:
    """The kernel's modules that the root needs, and the program that finds it."""
    modules = kernel.Modules(root).in_order(wish.modules)
    entries = [cpio.folder(name) for name in ("bin", "dev", "etc", "modules", "proc", "sys")]
    entries += [cpio.node("dev/console", 0o600, 5, 1), cpio.node("dev/null", 0o666, 1, 3)]
    entries += [
        cpio.file("bin/busybox", root / "usr/bin/busybox", 0o755),
        cpio.file("init", source / "init", 0o755),
    ]
    entries += [cpio.file(f"modules/{name}.ko", data) for name, data in modules]
    entries += [cpio.file("etc/modules", "".join(f"{name}\n" for name, _ in modules).encode())]
    with target.open("wb") as file:
        cpio.write(file, entries)


def _settle(root: Path, source: Path) -> None:
    """What an installer would have set: the network, no host key of everybody's, an identity made at boot."""
    for name in _GONE:
        shutil.rmtree(root / name)
        (root / name).mkdir()
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    (root / "etc/machine-id").write_text("")
    shutil.copyfile(source / "user.network", root / "etc/systemd/network/user.network")
    for unit, target in _WANTED.items():
        wants = root / _UNITS / f"{target}.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).unlink(missing_ok=True)
        (wants / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    for unit in _MASKED:
        (root / _UNITS / unit).unlink(missing_ok=True)
        (root / _UNITS / unit).symlink_to("/dev/null")
