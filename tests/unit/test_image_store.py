"""The image cache without mmdebstrap: what builds is replaced, what stores and publishes is real."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from harness.image import build, mounts, recipe, tree
from harness.image.store import Image, Manifest, Store, describe
from harness.model.deadline import Deadline, until
from harness.model.errors import HostUnfit, InfrastructureError, UsageError
from harness.model.progress import Progress
from tests.unit.hangs import HANGS

RECIPE = 'kind = "tree"\nsuite = "trixie"\npackages = ["hello"]\n'


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "guest-images/toy").mkdir(parents=True)
    (tmp_path / "guest-images/toy/recipe.toml").write_text(RECIPE)
    return tmp_path / "guest-images"


@pytest.fixture
def store(tmp_path: Path, recipes: Path) -> Store:
    return Store(tmp_path / "cache", recipe_folder=recipes)


class Builder:
    """Stands in for `build.build`: makes one file, or fails after having made half of it."""

    def __init__(self) -> None:
        self.built = 0
        self.fails: BaseException | None = None

    def __call__(self, name: str, identity: str, folder: Path, scratch: Path, progress: Progress) -> Manifest:
        self.built += 1
        out = scratch / "out"
        out.mkdir()
        (out / "file").write_text("whole")
        if self.fails:
            raise self.fails
        made = Manifest(name, identity, "tree", "trixie", "", "2026", 0.0, 5, (), describe(out))
        (out / "manifest.json").write_bytes(msgspec.json.encode(made))
        return made


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    made = Builder()
    monkeypatch.setattr(build, "build", made)
    return made


def left(store_root: Path) -> list[str]:
    return [path.name for path in (store_root / "scratch").iterdir()]


def test_an_image_is_built_once_and_found_by_its_recipe(
    store: Store, builder: Builder, tmp_path: Path
) -> None:
    assert store.find("toy") is None
    first, second = store.get("toy"), store.get("toy")
    assert first == second
    assert builder.built == 1
    assert store.images() == [first]
    assert first.file("file").read_text() == "whole"
    assert left(tmp_path / "cache") == []


def test_another_recipe_is_another_image(store: Store, builder: Builder, recipes: Path) -> None:
    first = store.get("toy")
    (recipes / "toy/init").write_text("a file beside the recipe")
    assert store.find("toy") is None
    assert not store.current(first)
    second = store.get("toy")
    assert second.id != first.id
    assert store.current(second)


def test_an_image_of_a_kind_that_only_another_checkout_knows_is_in_nobodys_way(
    store: Store, builder: Builder, tmp_path: Path
) -> None:
    image = store.get("toy")
    other = msgspec.structs.replace(image.manifest, id="0" * 16, kind="of-tomorrow")
    folder = image.path.with_name(other.id)
    folder.mkdir()
    (folder / "manifest.json").write_bytes(msgspec.json.encode(other))
    assert {found.manifest.kind for found in store.images()} == {"tree", "of-tomorrow"}
    assert store.find("toy") == image


@pytest.mark.parametrize("fails", [RuntimeError("bug"), KeyboardInterrupt()])
def test_a_build_that_is_broken_off_leaves_nothing(
    store: Store, builder: Builder, tmp_path: Path, fails: BaseException
) -> None:
    builder.fails = fails
    with pytest.raises(type(fails)):
        store.get("toy")
    assert store.find("toy") is None
    assert store.images() == []
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "fails",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        InfrastructureError(
            "mmdebstrap ended with 25", detail="tar: x: Cannot write: No space left on device"
        ),
    ],
)
def test_a_full_disk_is_said_plainly(
    store: Store, builder: Builder, tmp_path: Path, fails: Exception
) -> None:
    builder.fails = fails
    with pytest.raises(InfrastructureError, match="no space left") as told:
        store.get("toy")
    assert "images prune" in told.value.hint
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("kind", "needed"), [("lab", 1024), ("distribution", 1024), ("program", 768), ("tree", 512)]
)
def test_too_little_room_is_said_before_anything_is_fetched(
    store: Store,
    builder: Builder,
    tmp_path: Path,
    recipes: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    needed: int,
) -> None:
    (recipes / "toy/recipe.toml").write_text(RECIPE.replace("tree", kind))
    free = SimpleNamespace(f_blocks=needed, f_bavail=needed - 1, f_frsize=1 << 20)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    said = rf"image toy can't be built: {needed - 1} MiB are free in .*, {needed} are needed"
    with pytest.raises(HostUnfit, match=said) as told:
        store.get("toy")
    assert "images prune" in told.value.hint
    assert not builder.built
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(("blocks", "free"), [(512, 512), (0, 0)])
def test_room_enough_or_not_told_is_room(
    store: Store, builder: Builder, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int
) -> None:
    """FUSE gives zeros for what is not told."""
    found = SimpleNamespace(f_blocks=blocks, f_bavail=free, f_frsize=1 << 20)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert store.get("toy").path.is_dir()


def test_in_an_image_all_can_be_read_whatever_the_umask(store: Store, builder: Builder) -> None:
    before = os.umask(0o077)
    try:
        image = store.get("toy")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((image.path / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE(image.path.stat().st_mode) == 0o755
    assert stat.S_IMODE(image.path.parent.stat().st_mode) == 0o700


def test_two_builds_at_once_build_once(store: Store, builder: Builder) -> None:
    got: list[Image] = []
    threads = [threading.Thread(target=lambda: got.append(store.get("toy"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.built == 1
    assert len(set(image.path for image in got)) == 1


KILLED = """
import sys, time
from pathlib import Path
from harness.image import build
from harness.image.store import Store
def hang(name, identity, folder, scratch, progress):
    (scratch / "out").mkdir()
    (scratch / "out" / "half").write_text("half")
    sys.stdin.read()
build.build = hang
Store(Path(sys.argv[1]), recipe_folder=Path(sys.argv[2])).get("toy")
"""


def test_a_killed_build_leaves_no_image_and_the_next_one_sweeps(
    store: Store, builder: Builder, tmp_path: Path, recipes: Path
) -> None:
    cache = tmp_path / "cache"
    argv = [sys.executable, "-c", KILLED, str(cache), str(recipes)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        until(lambda: list(cache.glob("scratch/*/out/half")), Deadline(HANGS), "half an image")
        os.kill(process.pid, signal.SIGKILL)
    assert store.find("toy") is None
    assert len(left(cache)) == 1
    store.get("toy")
    assert left(cache) == []


def test_a_step_that_mounts_ends_whole_with_who_ran_it(tmp_path: Path) -> None:
    if not tree._is_apart():
        pytest.skip("needs a root that may make namespaces")
    fifo, at = tmp_path / "fifo", tmp_path / "at"
    os.mkfifo(fifo)
    at.mkdir()
    script = f"mount -t tmpfs x {at}; setsid sleep 1000 > {fifo} & exec sleep 1000"
    code = f"from harness.image import tree; tree.run(['sh', '-c', {script!r}], 'a step', mounts=True)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        with fifo.open("rb") as orphan:
            process.kill()
            assert select.select([orphan], [], [], HANGS / 10)[0], "its daemon lives on"
            assert orphan.read() == b""
    assert mounts.below(at) == []
    assert "/proc" in mounts.below(Path("/"))


def test_verify_names_what_changed(store: Store, builder: Builder) -> None:
    image = store.get("toy")
    assert store.verify(image) == []
    (image.path / "file").write_text("other")
    (image.path / "more").touch()
    assert store.verify(image) == ["more: not in the manifest", "file: changed"]
    (image.path / "file").unlink()
    assert "file: missing" in store.verify(image)


def test_a_cache_that_cannot_be_written_names_the_way_out(recipes: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(HostUnfit, match="can't be written") as told:
        Store(tmp_path / "cache", recipe_folder=recipes).get("toy")
    assert "XDG_CACHE_HOME" in told.value.hint


def test_a_mistake_in_a_recipe_names_the_file_and_what_is_allowed(recipes: Path) -> None:
    (recipes / "toy/recipe.toml").write_text(RECIPE + 'pakages = ["x"]\n')
    with pytest.raises(UsageError, match=r"recipe\.toml.*pakages") as told:
        recipe.load("toy", recipes)
    assert "packages" in told.value.hint
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        recipe.load("toi", recipes)
