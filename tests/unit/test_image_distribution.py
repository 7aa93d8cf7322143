"""A distribution's guest without mmdebstrap: what is put right in its root, what goes into the image."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.image import build, distribution, kernel, recipe, tree
from harness.image.store import Manifest, Package
from harness.model.errors import UsageError
from harness.model.progress import Silent
from harness.plugin import options

STATUS = """\
Package: systemd
Status: install ok installed
Version: 257.9-1~deb13u1
Description: system and service manager
 Status: of a line in a description

Package: removed
Status: deinstall ok config-files
Version: 1

"""
TREE = {
    "boot/vmlinuz-6.12": "a kernel",
    "usr/lib/modules/6.12/kernel/erofs.ko": "\0depends=\0",
    "usr/bin/busybox": "busybox",
    "etc/ssh/ssh_host_rsa_key": "everybody's",
    "etc/machine-id": "abc",
    "etc/systemd/network/.keep": "",
    "etc/systemd/system/timers.target.wants/apt-daily.timer": "",
    "var/cache/apt/archive": "",
    "var/lib/apt/lists/list": "",
    "var/lib/dpkg/status": STATUS,
}
RECIPE = (
    'kind = "distribution"\nsuite = "trixie"\npackages = ["a", "b"]\nmodules = ["erofs"]\ndrop = ["/x/*"]\n'
)


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes/toy"
    folder.mkdir(parents=True)
    for name, text in {"recipe.toml": RECIPE, "init": "#!/bin/sh", "user.network": "[Match]"}.items():
        (folder / name).write_text(text)
    return folder.parent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that mmdebstrap got; it makes a small root. Packing makes a file that lists what it packs."""
    words: list[str] = []

    def run(argv: list[str], what: str, *, env: dict[str, str] | None = None, mounts: bool = False) -> str:
        if argv[0] == "mmdebstrap":
            words.extend(argv)
            made = tmp_path / "made"
            for name, text in TREE.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_text(text)
            with tarfile.open(argv[-1], "w") as tar:
                tar.add(made, ".")
        elif argv[0] == "mkfs.erofs":
            found = sorted(path for path in Path(argv[-1]).rglob("*") if path.is_symlink() or path.is_file())
            names = (str(path.relative_to(argv[-1])) for path in found)
            Path(argv[-2]).write_text("\n".join(names))
        else:
            subprocess.run(argv, check=True)
        return ""

    monkeypatch.setattr(tree, "run", run)
    monkeypatch.setattr(build, "check_tools", lambda: None)
    monkeypatch.setattr(
        kernel, "unpack_vmlinux", lambda boot, out, scratch, root: out.write_text(boot.read_text())
    )
    return words


@pytest.fixture
def made(installed: list[str], recipes: Path, tmp_path: Path) -> tuple[Manifest, Path]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return distribution.build("toy", "0123", recipes, scratch, Silent()), scratch


def test_an_image_holds_kernel_initramfs_root_and_a_drive(made: tuple[Manifest, Path]) -> None:
    manifest, scratch = made
    assert sorted(manifest.files) == ["image.erofs", "initrd", "root.erofs", "vmlinux"]
    drive = (scratch / "out/image.erofs").read_text().split()
    assert drive == ["initrd", "manifest.json", "root.erofs", "vmlinux", "where"]
    assert (manifest.kernel, manifest.kind) == ("6.12", "distribution")
    assert manifest.packages == (Package("systemd", "257.9-1~deb13u1"),)


def test_the_root_has_a_network_and_no_key_of_everybodys(made: tuple[Manifest, Path]) -> None:
    _, scratch = made
    root = (scratch / "out/root.erofs").read_text().split()
    assert "etc/systemd/network/user.network" in root
    assert not [name for name in root if name.startswith(("etc/ssh/ssh_host", "boot/", "var/cache/apt/"))]
    units = scratch / "root/etc/systemd/system"
    wanted = units / "multi-user.target.wants/systemd-networkd.service"
    assert str(wanted.readlink()) == "/usr/lib/systemd/system/systemd-networkd.service"
    assert str((units / "apt-daily.timer").readlink()) == "/dev/null"
    assert (scratch / "root/etc/machine-id").read_text() == ""


def test_the_initramfs_has_the_modules_in_order(made: tuple[Manifest, Path]) -> None:
    _, scratch = made
    data = (scratch / "out/initrd").read_bytes()
    for word in (b"modules/erofs.ko", b"etc/modules", b"bin/busybox", b"#!/bin/sh"):
        assert word in data


def test_what_is_dropped_is_told_to_dpkg(made: tuple[Manifest, Path], installed: list[str]) -> None:
    assert "--dpkgopt=path-exclude=/x/*" in installed
    assert "--include=a,b" in installed


def test_its_own_builder_is_part_of_what_it_is(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.identity("toy", recipes)
    monkeypatch.setitem(recipe._BUILDS_BY_KIND, "distribution", ("build",))
    assert recipe.identity("toy", recipes) != before


def test_what_is_built_on_demand_is_not_usual() -> None:
    assert "debian" in recipe.names()
    assert "debian" not in recipe.usual()


def test_an_unknown_image_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'debian'"):
        recipe.load("debain")


def wanted(*names: str) -> tuple[str, ...]:
    config: Any = SimpleNamespace(option=SimpleNamespace(vsock_images=list(names) or None, vsock_guest="pod"))
    return options.images(config)


def test_images_asked_for_are_those_that_are_not_there_anyway() -> None:
    assert wanted() == ()
    assert wanted("debian", "pod", "debian") == ("debian",)
    with pytest.raises(UsageError, match="no image is called 'ubuntu'"):
        wanted("ubuntu")
