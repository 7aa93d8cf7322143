"""A place whose guest is a distribution's own: its machine, its keys, the names of template and lab."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from harness.host import cid
from harness.image import recipe
from harness.image.store import Image, Package
from harness.lab import deploy, keys, lab, saved
from harness.lab.lab import Wish
from harness.lab.ssh import Ssh
from harness.model.link import Link
from harness.model.spec import Drive, Vsock
from harness.plugin import controller, ready
from harness.run import place, states, templates
from harness.run.place import Place, with_guest
from tests.unit.test_templates import here, image, whole

__all__ = ["here"]


def debian(folder: Path, identity: str = "debian1") -> Image:
    made = image(folder, "debian", identity)
    return Image(path=made.path, manifest=msgspec.structs.replace(made.manifest, kind="distribution"))


@pytest.fixture
def there(here: Place, tmp_path: Path) -> Place:
    """The same place with Debian as guest."""
    return with_guest(here, debian(tmp_path))


def test_its_machine_has_a_root_a_network_and_more_memory(here: Place, there: Place) -> None:
    usual, spec = (one.pod([Link.ISA_SERIAL], Vsock.HOTPLUG) for one in (here, there))
    assert spec.drives == (Drive(path=there.guest.path / "root.erofs"),)
    assert spec.drives[0].read_only  # several VMs have it at once
    assert (usual.ssh_forward, spec.ssh_forward) == (None, 0)
    assert spec.memory_mib > usual.memory_mib
    assert "systemd.getty_auto=no" in spec.append
    same = {"links": usual.links, "vsock": usual.vsock, "accel": usual.accel, "name": usual.name}
    assert msgspec.structs.asdict(spec).items() >= same.items()


def test_its_initramfs_has_keys_and_no_agent(there: Place) -> None:
    data = there.initrd.read_bytes()
    pair = there.arrival.pair
    assert pair is not None
    assert pair.user_public.encode() in data
    assert pair.host.read_bytes() in data
    assert b"vsock-harness/agent" not in data
    usual = with_guest(there, image(there.folder.path, "pod", "p"))
    assert b"vsock-harness/agent" in usual.initrd.read_bytes()
    assert usual.arrival.pair is None


def test_its_keys_stay_and_are_in_the_templates_key(here: Place, there: Place, tmp_path: Path) -> None:
    again = with_guest(here, debian(tmp_path))
    assert again.arrival == there.arrival
    kept = templates.key(there)
    assert templates.key(again) == kept
    assert there.arrival.pair is not None
    for path in (there.arrival.pair.user, there.arrival.pair.host):
        path.unlink()
    keys.ensure(there.arrival.pair.user.parent)
    assert templates.key(with_guest(here, debian(tmp_path))) != kept


def test_the_recipe_knows_its_kind(tmp_path: Path, there: Place) -> None:
    ours = image(tmp_path, "debian", "debian1")
    assert there.guest.contents == ours.contents
    recipes = {templates.recipe(guest, "agent", there.accel) for guest in (ours, there.guest)}
    assert len(recipes) == 2


def test_whether_its_template_is_there(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cid, "usable", lambda: False)
    assert not templates.is_there(there)
    whole(there.templates.root / templates.key(there), there)
    assert templates.is_there(there)
    with there.templates.making(templates.key(there)):
        assert not templates.is_there(there), "somebody is at it"


def test_a_saved_lab_is_known_by_the_guest_it_holds(tmp_path: Path) -> None:
    guests = (image(tmp_path, "pod", "p"), debian(tmp_path))
    images = lab.LabImages(qemu=image(tmp_path, "qemu", "q"), lab=image(tmp_path, "lab", "l"), guests=guests)
    pair = keys.ensure(tmp_path / "keys")
    wishes = [Wish(images=images, pair=pair, guest=name) for name in ("pod", "debian")]
    assert len({states.lab_identity(wish) for wish in wishes}) == 2
    assert Wish(images=images, pair=pair) == wishes[0]


def test_a_lab_is_told_whose_template_to_make_before_it_is_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    class Lab:
        def run(self, argv: list[str], **_: object) -> None:
            ran.append(argv)

    @contextlib.contextmanager
    def opened(store: object, **wanted: Any) -> Iterator[str]:
        yield f"a place of {wanted['image']}"

    @contextlib.asynccontextmanager
    async def held(place: str, logs: Path) -> AsyncIterator[None]:
        ran.append([place])
        yield

    monkeypatch.setattr(Ssh, "connect", lambda address: contextlib.nullcontext(Lab()))
    monkeypatch.setattr(deploy, "send_code", lambda ssh, code: None)
    saved._prepare("debian", cast(Any, SimpleNamespace(address=None)))
    monkeypatch.setattr(ready, "_serve", lambda *_: None)
    monkeypatch.setattr(place, "opened", opened)
    monkeypatch.setattr(templates, "held", held)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    ((*_, module, images, digest, guest),) = ran
    assert module == "harness.plugin.ready"
    ready.main([images, digest, guest])
    assert ran[1:] == [["a place of debian"]]


def test_it_is_among_the_guests_that_can_be_asked_for() -> None:
    assert {"pod", "debian"} <= set(recipe.guests())
    assert "lab" not in recipe.guests()


def test_the_runs_header_names_another_guest(tmp_path: Path) -> None:
    packages = (Package("openssh-server", "1:10"), Package("python3", "3.13"), Package("systemd", "257.8"))
    made = debian(tmp_path)
    found = Image(made.path, msgspec.structs.replace(made.manifest, packages=packages))

    class Store:
        def find(self, name: str) -> Image | None:
            return {"debian": found}.get(name)

    assert controller._guest_words(Store(), "pod") == []  # type: ignore[arg-type]
    assert controller._guest_words(Store(), "debian") == [  # type: ignore[arg-type]
        "guest image: debian (Debian trixie), openssh-server 1:10, systemd 257.8"
    ]
