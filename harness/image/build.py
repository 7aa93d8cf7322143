"""From a recipe to the files of an image. Slow; called by the store only."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tarfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.image import cpio, finish, golang, kernel, packages, recipe, store, tree
from harness.model.errors import HostUnfit
from harness.model.progress import Progress

_LIST = "packages.list"
_MERGE_USR = 'for part in bin sbin lib lib64; do mkdir -p "$1/usr/$part"; ln -s "usr/$part" "$1/$part"; done'
"""Before the packages of `_SPLIT_USR`, whose base-files does not have the links."""

_SPLIT_USR = ("bullseye", "bookworm")
"""Releases that have files in /lib and /bin."""

TOOLS = {"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "zstd": "zstd"}
if os.getuid() != 0:
    TOOLS["newuidmap"] = "uidmap"  # mmdebstrap's unshare mode


def build(name: str, identity: str, folder: Path, scratch: Path, progress: Progress) -> store.Manifest:
    """Make image `name` in `scratch`/out, manifest included; `scratch` is the caller's to remove.

    :raise HostUnfit: when a program is missing; the hint is the command that installs it.
    :raise InfrastructureError: when a step fails.
    """
    check_tools()
    begun = time.monotonic()
    wish = recipe.load(name, folder)
    out = scratch / "out"
    out.mkdir()
    root = scratch / "tree"
    with progress.stage(f"image {name}: Debian {wish.suite} packages"):
        contents = _unpack(wish, scratch, root)
    release = ""
    if wish.kind == "tree":
        with progress.stage(f"image {name}: files"):
            _prune(root, wish)
            shutil.move(root, out / "tree")
    elif wish.kind == "program":
        with progress.stage(f"image {name}: compiling"):
            golang.compile_program(root, sorted((folder / name).glob("*.go")), out / name, scratch)
            licences(root, out / "licences")
    else:
        release = kernel.version(root)
        with progress.stage(f"image {name}: kernel and initramfs"):
            boot = kernel.bzimage(root)
            if wish.kind == "kernel":
                shutil.copyfile(boot, out / "vmlinuz")
            else:
                kernel.unpack_vmlinux(boot, out / "vmlinux", scratch, root)
            _OF_KIND[wish.kind](wish, recipe.files(name, folder), root, out)
    manifest = finish.manifest(name, identity, wish, contents, release)
    with progress.stage(f"image {name}: hashes"):
        return finish.finished(manifest, out, scratch, begun=begun, drive=wish.kind in ("guest", "program"))


def licences(root: Path, target: Path) -> None:
    """The copyright file of each package, as what is compiled of them is all that is kept."""
    target.mkdir()
    for path in sorted((root / "usr/share/doc").glob("*/copyright")):
        shutil.copyfile(path, target / path.parent.name)


def check_tools() -> None:
    """Raise `HostUnfit` that names the missing programs and the one command that installs them."""
    missing = {program: package for program, package in TOOLS.items() if shutil.which(program) is None}
    if missing:
        raise HostUnfit(
            f"building images needs {', '.join(missing)}",
            ability="image-tools",
            hint=f"sudo apt-get install --no-install-recommends {' '.join(sorted(missing.values()))}",
        )


def _unpack(wish: recipe.Recipe, scratch: Path, root: Path) -> tuple[store.Package, ...]:
    """Let mmdebstrap fetch and unpack (variant extract: no maintainer script runs); what was fetched."""
    archive = scratch / "tree.tar"
    listing = f'ls "$1"/var/cache/apt/archives/ > "$1"/{_LIST}'
    argv = [
        "mmdebstrap",
        "--variant=extract",
        f"--extract-hook={listing}",
        "--aptopt=APT::Install-Recommends false",
    ]
    argv += ['--aptopt=Acquire::Check-Valid-Until "false"'] if wish.any_age else []
    if wish.suite in _SPLIT_USR:
        argv.append(f"--setup-hook={_MERGE_USR}")
    argv += [f"--include={','.join(wish.packages)}", wish.suite, str(archive)]
    # a user's own root (mmdebstrap's unshare mode) can't enter our private scratch folder; the real one can
    env = {**os.environ, "TMPDIR": str(scratch)} if os.getuid() == 0 else None
    tree.run(argv, f"fetching Debian {wish.suite} packages", env=env, mounts=True)
    with tarfile.open(archive) as tar:
        tar.extraction_filter = _as_it_is  # Debian 12's Python 3.11.2 knows no extractall(filter=)
        tar.extractall(root, members=_members(tar))
    archive.unlink()
    files = (root / _LIST).read_text().split()
    (root / _LIST).unlink()
    parts = [urllib.parse.unquote(file).split("_") for file in files if file.endswith(".deb")]
    return tuple(sorted(store.Package(name=part[0], version=part[1]) for part in parts))


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All but device nodes, owned by whoever builds."""
    for member in tar:
        if not member.isdev():
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            yield member


def _as_it_is(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """Debian's archives are trusted by signature; the absolute symlinks in them are wanted."""
    return member


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _prune(root: Path, wish: recipe.Recipe) -> None:
    """Remove from `root` what `keep` leaves out and what `drop` names."""
    if wish.keep:
        kept = [path for pattern in wish.keep for path in root.glob(pattern)]
        for path in sorted(root.rglob("*"), reverse=True):
            inside = any(path == keep or keep in path.parents or path in keep.parents for keep in kept)
            if not inside and (path.is_symlink() or not path.is_dir()):
                path.unlink()
    for path in sorted(root.rglob("*"), reverse=True):
        if _matches(str(path.relative_to(root)), wish.drop):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():
                path.unlink()
        elif path.is_dir() and not path.is_symlink() and wish.keep and not any(path.iterdir()):
            path.rmdir()


def _compile(root: Path, wish: recipe.Recipe) -> None:
    """Write .pyc files with the tree's own Python: it takes seconds here and minutes when emulated."""
    folders = [str(path) for pattern in wish.compile for path in root.glob(pattern) if path.is_dir()]
    if not folders:
        return
    python = next(path for path in sorted((root / "usr/bin").glob("python3.*")) if path.name.count(".") == 1)
    argv = tree.plain(root, str(python.relative_to(root)))
    argv += [
        "-s",
        "-m",
        "compileall",
        "-q",
        "-s",
        str(root),
        "-p",
        "/",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    tree.run(
        [*argv, *folders], "compiling Python files", env={"PYTHONHOME": str(root / "usr"), "PATH": os.defpath}
    )


def _initrd(modules: list[tuple[str, bytes]], init: Path, extra: list[cpio.Entry]) -> list[cpio.Entry]:
    """What both initramfs have: folders, the init program, modules in load order; then `extra`."""
    entries = [
        cpio.folder(name) for name in ("bin", "dev", "etc", "modules", "proc", "sys", "tmp", "run", "root")
    ]
    entries += [cpio.node("dev/console", 0o600, 5, 1), cpio.node("dev/null", 0o666, 1, 3)]
    entries += [cpio.file("init", init, 0o755)]
    entries += [cpio.file(f"modules/{name}.ko", data) for name, data in modules]
    entries += [cpio.file("etc/modules", "".join(f"{name}\n" for name, _ in modules).encode())]
    return entries + extra


def _guest(wish: recipe.Recipe, source: Mapping[str, Path], root: Path, out: Path) -> None:
    """`initrd`: Python, busybox, the modules of the links."""
    modules = kernel.Modules(root).in_order(wish.modules)
    busybox = (root / "usr/bin/busybox").read_bytes()
    _prune(root, wish)
    _compile(root, wish)
    extra = [
        cpio.file("bin/busybox", busybox, 0o755),
        cpio.file("etc/inittab", source["inittab"]),
        cpio.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
        cpio.file("etc/group", b"root:x:0:\n"),
        cpio.symlink("lib64", "usr/lib64"),
        cpio.symlink("lib", "usr/lib"),
        *cpio.walk(root),
    ]
    with (out / "initrd").open("wb") as file:
        cpio.write(file, _initrd(modules, source["init"], extra))


def _lab(wish: recipe.Recipe, source: Mapping[str, Path], root: Path, out: Path) -> None:
    """`initrd`, and `root.erofs`: the lab's root with the workers' Python packages in it."""
    modules = kernel.Modules(root).in_order(wish.modules)
    busybox = (root / "usr/bin/busybox").read_bytes()
    with (out / "initrd").open("wb") as file:
        cpio.write(file, _initrd(modules, source["init"], [cpio.file("bin/busybox", busybox, 0o755)]))
    site = root / "opt/vsock-harness/site"
    python = next(path.name for path in (root / "usr/lib").glob("python3.*"))[len("python") :]
    packages.install(source[wish.python_packages], python, site)
    _prune(root, wish)
    _compile(root, wish)
    depmod = tree.command(root, "usr/bin/kmod", argv0="depmod")
    tree.run(
        [*depmod, "-b", str(root / "usr"), "-m", "/lib/modules", kernel.version(root)],
        "listing the lab's modules",
    )
    places = {
        "rc": "etc/lab/rc",
        "states": "etc/lab/states",
        "inittab": "etc/inittab",
        "sshd_config": "etc/ssh/sshd_config",
    }
    places |= {"passwd": "etc/passwd", "group": "etc/group"}
    for name, place in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source[name], root / place)
    (root / "etc/lab/rc").chmod(0o755)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "mnt", "var/lib", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    if not (root / "usr/bin/sh").exists():  # dash makes it in its maintainer script, and none runs here
        (root / "usr/bin/sh").symlink_to("bash")
    tree.run(
        ["mkfs.erofs", "--all-root", "-T0", str(out / "root.erofs"), str(root)], "packing the lab's root"
    )


def _kernel(wish: recipe.Recipe, source: Mapping[str, Path], root: Path, out: Path) -> None:
    """`initrd`: the lab's, with this kernel's modules: those that find the root, and all that `keep` names.

    The latter go to the lab's root at boot, and are listed there: an old release's depmod does not run here
    (ld.so knows --argv0 since glibc 2.33). `vmlinuz` stays packed: up to bookworm by lz4, which Python can't.
    """
    modules = kernel.Modules(root).in_order(wish.modules)
    busybox = (root / "usr/bin/busybox").read_bytes()
    _prune(root, wish)
    with (out / "initrd").open("wb") as file:
        extra = [cpio.file("bin/busybox", busybox, 0o755), *cpio.walk(root)]
        cpio.write(file, _initrd(modules, source["init"], extra))


_OF_KIND: dict[str, Callable[[recipe.Recipe, Mapping[str, Path], Path, Path], None]] = {
    "guest": _guest,
    "lab": _lab,
    "kernel": _kernel,
}
"""What is made of the tree of a recipe that has a kernel."""
