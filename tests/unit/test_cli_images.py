"""`vsock-harness images` on a cache of small made-up images, and on caches that can't be written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from harness.cli import imagetable
from harness.cli.main import main
from harness.host.interrupts import Terminated
from harness.image import build, mounts, recipe
from harness.image.store import Image, Manifest, Package, Store, describe
from harness.model.deadline import Deadline, until
from harness.model.errors import HostUnfit, InfrastructureError
from tests.unit.hangs import HANGS

OLD = "0123456789abcdef"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vsock-harness"


def make(cache: Path, name: str, identity: str = "") -> Image:
    folder = cache / "images" / name / (identity or recipe.identity(name))
    folder.mkdir(parents=True)
    (folder / "vmlinux").write_bytes(bytes(3000))
    manifest = Manifest(
        name=name,
        id=folder.name,
        kind="guest",
        suite="trixie",
        kernel="6.12",
        built="2026-01-01T00:00:00+00:00",
        seconds=12.0,
        bytes=20 << 20,
        packages=(Package("bash", "5.2"), Package("zlib1g", "1:1.3")),
        files=describe(folder),
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return Image(folder, manifest)


def test_list_tells_current_from_old_from_missing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current, old = make(cache, "pod"), make(cache, "pod", OLD)
    assert main(["images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert rows[0] == ["name", "id", "state", "suite", "kernel", "size", "age", "packages", "path"]
    kernels = [row[0] for row in rows[1:] if row[0].startswith("kernel-")]
    rows = [row for row in rows if row[0] not in kernels]
    assert rows[1][:3] == ["debian", recipe.identity("debian"), "on-demand"]
    assert rows[2][:3] == ["lab", recipe.identity("lab"), "missing"]
    assert rows[3][:7] == ["pod", current.id, "current", "trixie", "6.12", "20", "MiB"]
    assert rows[3][-2:] == ["2", str(current.path)]
    assert rows[4][:3] == ["pod", OLD, "old"]
    assert rows[4][-1] == str(old.path)
    guests = ["pod-bookworm", "pod-bullseye", "pod-forky"]
    assert [row[0] for row in rows[5:]] == [*guests, "programs", "proxy", "qemu", "vhost-device-vsock"]
    usual = [line for line in lines[1:] if not line.startswith("kernel-")]
    places = {
        max(line.find(f" {suite} ") for suite in ("trixie", "forky", "bookworm", "bullseye"))
        for line in usual
    }
    assert len(places) == 1
    assert -1 not in places


def test_list_as_json(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make(cache, "pod")
    assert main(["images", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["state"] for name, row in rows.items() if not name.startswith("kernel-")} == {
        "debian": "on-demand",
        "lab": "missing",
        "pod": "current",
        "pod-bookworm": "on-demand",
        "pod-bullseye": "on-demand",
        "pod-forky": "on-demand",
        "programs": "missing",
        "proxy": "missing",
        "qemu": "missing",
        "vhost-device-vsock": "missing",
    }
    assert rows["pod"]["path"] == str(image.path)
    assert rows["pod"]["packages"] == 2


def test_paths_go_below_on_a_narrow_terminal(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = imagetable.Row.of(make(cache, "pod"), current=True)
    wide = imagetable.table([row])
    assert len(wide.splitlines()) == 2
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    narrow = imagetable.table([row]).splitlines()
    assert [line.strip() for line in narrow][2:] == [row.path]
    assert all(len(line) <= 90 for line in narrow[:2])


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert imagetable.span(seconds) == text


def test_show_takes_names_and_ids(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(cache, "pod", "ffffffffffffffff")  # sorts behind today's
    current = make(cache, "pod")
    assert main(["images", "show", "pod"]) == 0
    out = capsys.readouterr().out
    assert f"{current.id} (current)" in out
    assert "  zlib1g  1:1.3" in out
    assert main(["images", "show", "ffffffffffffffff", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["state"] == "old"
    assert data["packages"][0] == {"name": "bash", "version": "5.2"}


@pytest.mark.parametrize("action", ["show", "verify"])
def test_images_that_are_not_there(action: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", action, "pdo"]) == 2
    assert "no image is called 'pdo'; did you mean 'pod'?" in capsys.readouterr().err
    assert main(["images", action, "pod"]) == 2
    assert "hint: vsock-harness images build pod" in capsys.readouterr().err


def test_verify_names_what_differs(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, good = make(cache, "pod"), make(cache, "lab")
    assert main(["images", "verify"]) == 0
    assert capsys.readouterr().out.count("as it was built") == 2
    image.file("vmlinux").write_bytes(b"other")
    assert main(["images", "verify"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"lab {good.id}: as it was built" in lines
    assert lines[1:] == [
        f"pod {image.id}: differs",
        "  vmlinux: changed",
        "  mend: vsock-harness images build --force pod",
    ]
    assert main(["images", "verify", "lab"]) == 0


def test_prune_removes_what_no_recipe_asks_for(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current, old = make(cache, "pod"), make(cache, "pod", OLD)
    foreign = make(cache, "stranger", OLD)
    assert main(["images", "prune", "--dry-run"]) == 0
    assert "would remove 40 MiB in all" in capsys.readouterr().out
    assert old.path.exists()
    assert main(["images", "prune"]) == 0
    out = capsys.readouterr().out
    assert f"removed pod {OLD}: 20 MiB" in out
    assert "removed 40 MiB in all" in out
    assert not old.path.exists()
    assert not foreign.path.exists()
    assert current.path.exists()
    assert main(["images", "prune"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert main(["images", "prune", "--all"]) == 0
    assert not current.path.exists()


def test_prune_leaves_alone_what_a_process_runs_from(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = make(cache, "pod", OLD)
    argv = ["sh", "-c", "read line", str(old.path / "vmlinux")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as user:
        # empty for a moment around execve(2)
        until(Path(f"/proc/{user.pid}/cmdline").read_bytes, Deadline(HANGS), "the process's command line")
        assert main(["images", "prune"]) == 0
        assert f"kept pod {OLD}: process {user.pid} runs from it" in capsys.readouterr().out
        assert old.path.exists()
    assert main(["images", "prune"]) == 0
    assert not old.path.exists()


def test_prune_sweeps_what_ended_builds_left(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pod-dead", "pod-alive", "pod-begins", "removed-x"):
        (cache / "scratch" / name).mkdir(parents=True)
        (cache / "scratch" / name / "file").write_bytes(bytes(2048))
    (cache / "scratch/pod-dead/lock").touch()
    with (cache / "scratch/pod-alive/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["images", "prune"]) == 0
    assert sorted(path.name for path in (cache / "scratch").iterdir()) == ["pod-alive", "pod-begins"]
    assert "removed pod-dead, which an ended build left: 2 KiB" in capsys.readouterr().out


def test_prune_sweeps_what_lost_its_lock_long_ago(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = cache / "scratch/proxy-x"
    left.mkdir(parents=True)
    os.utime(left, (time.time() - 3600,) * 2)
    assert main(["images", "prune"]) == 0
    assert "removed proxy-x, which an ended build left" in capsys.readouterr().out
    assert not left.exists()


def test_prune_names_what_is_mounted_there_and_removes_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = cache / "scratch/proxy-x"
    (left / "dev/pts").mkdir(parents=True)
    (left / "lock").touch()
    monkeypatch.setattr(mounts, "below", lambda path: [f"{path}/dev", f"{path}/dev/pts"])
    for _ in range(2):
        assert main(["images", "prune"]) == 1
        err = capsys.readouterr().err
        assert f"mounted there: {left}/dev, {left}/dev/pts" in err
        assert f"hint: sudo umount {left}/dev/pts {left}/dev; then prune again" in err
    assert (left / "lock").exists()


def test_sigterm_ends_a_build_in_order(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_it(name: str, identity: str, folder: Path, scratch: Path, progress: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HANGS)

    monkeypatch.setattr(build, "build", build_it)
    before = signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # rather than this test's end, if nobody handles it
    try:
        assert main(["images", "build", "pod"]) == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list((cache / "scratch").iterdir()) == []


def test_prune_that_may_not_is_one_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(cache, "pod", OLD)

    def fail(store: Store, image: Image) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(image.path))

    monkeypatch.setattr(Store, "remove", fail)
    assert main(["images", "prune"]) == 1
    assert "can't be removed: Permission denied" in capsys.readouterr().err


def test_build_tells_what_it_made(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = make(cache, "pod")
    made: list[str] = []

    def fake(name: str, identity: str, folder: Path, scratch: Path, progress: object) -> Manifest:
        (scratch / "out").mkdir()
        made.append(name)
        return msgspec.structs.replace(there.manifest, name=name, id=identity)

    monkeypatch.setattr(build, "build", fake)
    assert main(["images", "build", "pod", "qemu"]) == 0
    assert made == ["qemu"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"pod {there.id}: there already, 20 MiB, 2 packages: {there.path}"
    assert lines[1].startswith(f"qemu {recipe.identity('qemu')}: built in 12 s, 20 MiB, 2 packages: ")
    assert main(["images", "build", "--force", "pod"]) == 0
    assert made == ["qemu", "pod"]


def test_build_of_an_unknown_name_builds_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "build", lambda *args: pytest.fail("built"))
    assert main(["images", "build", "pod", "labb"]) == 2
    assert "did you mean 'lab'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "building image pod: no space left in "),
        (HostUnfit("needs zstd", ability="image-tools", hint="apt"), 2, "needs zstd\nhint: apt"),
        (InfrastructureError("fetching", detail="E: no network"), 1, "fetching\nE: no network\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(), 143, "ended by SIGTERM"),
    ],
)
def test_build_that_fails_is_clean_and_leaves_nothing(
    error: BaseException,
    code: int,
    said: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(name: str, identity: str, folder: Path, scratch: Path, progress: object) -> None:
        (scratch / "half").write_bytes(bytes(100))
        raise error

    monkeypatch.setattr(build, "build", fail)
    assert main(["images", "build", "pod"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert list((cache / "scratch").iterdir()) == []
    assert Store(cache).images() == []


def test_cache_that_can_not_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")  # not even for root
    assert main(["images", "build", "pod"]) == 2
    err = capsys.readouterr().err
    assert "can't be written: " in err
    assert "hint: set XDG_CACHE_HOME" in err
    assert main(["images", "list"]) == 0
    assert main(["images", "prune"]) == 0


def test_lists_even_where_no_cache_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "list"]) == 0
    out = capsys.readouterr().out
    assert out.count(" missing ") == len(recipe.usual())
    assert out.count(" on-demand ") == len(recipe.names()) - len(recipe.usual())
    assert not os.path.lexists(cache)
