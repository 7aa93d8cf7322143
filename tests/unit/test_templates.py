"""What a template is kept under: all that it depends on, and nothing else. Saving and cloning: tests/vm."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from harness.host import cid, depot, kernel
from harness.host.depot import Depot, Limits
from harness.image.store import Entry, Image, Manifest
from harness.lab import keys, lab, saved
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.link import Link
from harness.model.spec import Accel, Qemu
from harness.run import place, pod, templates
from harness.run.place import Place
from harness.vm import template
from harness.vm.commandline import RamFile
from harness.vm.machine import Machine


def image(folder: Path, name: str, identity: str) -> Image:
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("vmlinux", "vmlinuz", "initrd", "image.erofs", "root.erofs", "tree"):
        (folder / file).touch()
    manifest = msgspec.convert(
        {
            "name": name,
            "id": identity,
            "kind": "guest",
            "suite": "trixie",
            "kernel": "",
            "built": "",
            "seconds": 0.0,
            "bytes": 0,
            "packages": (),
            "files": {},
        },
        Manifest,
    )
    return Image(path=folder, manifest=manifest)


@pytest.fixture
def here(tmp_path: Path) -> Place:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder: Any = type("Folder", (), {"path": tmp_path})()
    return Place(
        folder=folder,
        templates=Depot(tmp_path / "templates", Limits(bytes=1)),
        qemu=Qemu(argv=(str(program),), version="10.0"),
        guest=image(tmp_path, "pod", "guest1"),
        initrd=tmp_path / "initrd",
        agent="agent1",
        accel=Accel.TCG,
    )


def test_the_same_place_has_the_same_key_wherever_its_run_has_its_files(here: Place) -> None:
    elsewhere = msgspec.structs.replace(here, initrd=Path("/elsewhere/initrd"))
    assert templates.key(here) == templates.key(elsewhere)


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "agent2"},
        {"accel": Accel.KVM},
        {"guest": "guest2"},
        {"version": "10.1"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_agent_guest_accelerator_and_qemu_are_in_the_key(
    here: Place, other: dict[str, Any], tmp_path: Path
) -> None:
    before = templates.key(here)
    if "guest" in other:
        other = {"guest": image(tmp_path, "pod", other["guest"])}
    if "version" in other:
        other = {"qemu": msgspec.structs.replace(here.qemu, version=other["version"])}
    assert templates.key(msgspec.structs.replace(here, **other)) != before


@pytest.mark.parametrize("of_image", [False, True])
def test_a_rebuilt_qemu_is_another_one_and_its_loader_is_none(
    here: Place, of_image: bool, tmp_path: Path
) -> None:
    if of_image:
        root = tmp_path / "images/qemu/0123/tree"
        program = Path(here.qemu.argv[0]).rename(tmp_path / "qemu-system-x86_64.real")
        root.mkdir(parents=True)
        program = program.rename(root / "qemu-system-x86_64")
        loader = root / "ld-linux-x86-64.so.2"
        loader.write_text("")
        loader.chmod(0o755)
        argv = (str(loader), "--argv0", program.name, str(program), "-L", str(root / "share/qemu"))
        here = msgspec.structs.replace(here, qemu=msgspec.structs.replace(here.qemu, argv=argv))
        before = templates.key(here)
        os.utime(loader, (1, 1))
        assert templates.key(here) == before
    before = templates.key(here)
    os.utime(next(word for word in here.qemu.argv if word.endswith("/qemu-system-x86_64")), (1, 1))
    assert templates.key(here) != before


def test_a_command_line_without_a_qemu_has_no_key(here: Place) -> None:
    with pytest.raises(HostUnfit, match=r"no qemu-system-\* in /bin/true"):
        templates.key(msgspec.structs.replace(here, qemu=Qemu(argv=("/bin/true",))))


def test_a_change_of_the_pods_machine_is_in_the_key(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = templates.key(here)
    monkeypatch.setattr(templates, "SERIAL", templates.SERIAL[:1])
    assert templates.key(here) != before


def whole(folder: Path, here: Place) -> Path:
    """A saved pod, as far as its files tell."""
    folder.mkdir(parents=True)
    (folder / "ram").touch()
    os.truncate(folder / "ram", templates.spec(here).memory_mib << 20)
    (folder / "state").write_text("state")
    return folder


@pytest.mark.parametrize(("vsock", "needed"), [(False, 1), (True, 2)])
def test_memory_that_is_saved_twice_needs_the_space_twice(
    here: Place, vsock: bool, needed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def hold() -> None:
        async with templates.held(here, tmp_path / "logs"):
            pytest.fail("made")

    size = templates.spec(here).memory_mib
    monkeypatch.setattr(cid, "usable", lambda: vsock)
    monkeypatch.setattr(depot, "free_bytes", lambda folder: (needed * size - 1) << 20)
    with pytest.raises(InfrastructureError, match=f"{needed * size - 1} MiB of {needed * size} are free"):
        asyncio.run(hold())


def test_a_pod_is_saved_once_it_rests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    async def idle(pid: int, deadline: Deadline) -> bool:
        done.append(f"{pid} rests")
        return False  # one that never does is saved as it is

    async def save(monitor: object, state: Path, deadline: Deadline) -> None:
        done.append(f"saved in {state.name}")

    monkeypatch.setattr(templates, "idle", idle)
    monkeypatch.setattr(template, "save", save)
    machine = cast(Machine, SimpleNamespace(pid=7, monitor=None))
    asyncio.run(templates._save(machine, tmp_path / "state", Deadline(1)))
    assert done == ["7 rests", "saved in state"]
    (note,) = templates.note(tmp_path)
    assert note.startswith("the template was still busy when it was saved")


def test_whether_there_is_vsock_is_in_the_key(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_made = set()
    for vsock in (False, True):
        monkeypatch.setattr(cid, "usable", lambda vsock=vsock: vsock)
        keys_made.add(templates.key(here))
    assert len(keys_made) == 2


def test_a_cache_that_cannot_be_written_is_none_to_keep_templates_in(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert place._writable(tmp_path / "new" / "folder")
    assert not place._writable(tmp_path / "file" / "folder")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pod_saved_in_a_read_only_cache_is_gone_on_from(
    here: Place, read_only: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    saved = whole(kept / templates.key(here), here)
    accessible = os.access
    if read_only:  # for root too, whom no permissions keep from writing
        monkeypatch.setattr(os, "access", lambda path, how: how == os.X_OK and accessible(path, how))
    started: list[RamFile] = []

    def start(*_: object, ram: RamFile, **__: object) -> None:
        started.append(ram)
        raise InterruptedError

    monkeypatch.setattr(Machine, "start", start)
    (tmp_path / "run").mkdir()
    folder: Any = SimpleNamespace(path=tmp_path / "run")
    with_kept = msgspec.structs.replace(here, templates=place._depot(kept, folder))

    async def clone() -> None:
        async with pod.cloned(with_kept, [Link.VIRTIO_SERIAL], tmp_path / "logs"):
            pass

    with pytest.raises(InterruptedError):
        asyncio.run(clone())
    assert started == [RamFile(path=saved / "ram", share=False, fixed=read_only)]


def test_a_saved_lab_depends_on_its_images_its_keys_its_size_and_its_template(tmp_path: Path) -> None:
    pair = keys.ensure(tmp_path / "keys")
    images = lab.LabImages(
        qemu=image(tmp_path, "qemu", "q"),
        lab=image(tmp_path, "lab", "l"),
        guests=(image(tmp_path, "pod", "p"),),
    )
    wish = lab.Wish(images=images, pair=pair)
    before = saved.key(wish, "template")
    assert saved.key(wish, "template") == before
    other = msgspec.structs.replace(images, guests=(image(tmp_path, "pod", "p2"),))
    different = [
        saved.key(wish, "another template"),
        saved.key(msgspec.structs.replace(wish, memory_mib=2048), "template"),
        saved.key(msgspec.structs.replace(wish, images=other), "template"),
        saved.key(msgspec.structs.replace(wish, accel=Accel.KVM), "template"),
        saved.key(msgspec.structs.replace(wish, pair=keys.ensure(tmp_path / "other")), "template"),
    ]
    assert len({before, *different}) == 6


def test_what_is_built_again_under_the_same_id_is_another_image(here: Place, tmp_path: Path) -> None:
    first = image(tmp_path, "pod", "p")
    again = rebuilt(first)
    assert first.contents == image(tmp_path, "pod", "p").contents
    keys_made = {templates.key(msgspec.structs.replace(here, guest=one)) for one in (first, again)}
    assert len(keys_made) == 2
    pair = keys.ensure(tmp_path / "keys")
    images = lab.LabImages(qemu=first, lab=first, guests=(first,), kernel=first)
    several = [
        images,
        msgspec.structs.replace(images, qemu=again),
        msgspec.structs.replace(images, lab=again),
        msgspec.structs.replace(images, guests=(again,)),
        msgspec.structs.replace(images, kernel=again),
    ]
    assert len({saved.key(lab.Wish(images=one, pair=pair), "template") for one in several}) == 5


def rebuilt(first: Image) -> Image:
    files = {**first.manifest.files, "vmlinux": Entry(bytes=1, sha256="other")}
    return Image(first.path, msgspec.structs.replace(first.manifest, files=files))


def test_what_a_cpu_can_is_in_the_key_and_not_how_fast_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()

    def seen(mhz: str, flags: str) -> str:
        text = f"processor\t: 0\nmodel name\t: X\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n"
        (tmp_path / "proc/cpuinfo").write_text(f"{text}\n{text}")
        return kernel.cpu(tmp_path)

    assert seen("1000", "fpu svm") == seen("3000", "fpu svm") != seen("3000", "fpu")
