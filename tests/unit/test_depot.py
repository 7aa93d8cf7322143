"""Folders that are costly to make: made once, used while nobody removes them, pruned."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.host.depot import Depot, Limits, _writable, free_bytes, sync
from harness.model.errors import InfrastructureError

LIMITS = Limits(bytes=1 << 20, days=14)


def made(depot: Depot, key: str, size: int = 4096, age: float = 0.0) -> Path:
    with depot.making(key) as folder:
        assert folder is not None
        (folder / "ram").write_bytes(b"x" * size)
    path = depot.root / key
    used = path.stat().st_mtime - age
    os.utime(path, (used, used))
    return path


def keys(depot: Depot) -> list[str]:
    return [kept.key for kept in depot.kept()]


def test_what_is_made_is_found_and_made_only_once(tmp_path: Path) -> None:
    depot = Depot(tmp_path / "depot", LIMITS)
    with depot.using("a") as missing:
        assert missing is None
    path = made(depot, "a")
    with depot.using("a") as found, depot.using("a") as again:
        assert found == again == path
    with depot.making("a") as scratch:
        assert scratch is None


def test_a_maker_that_fails_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)

    def fail() -> None:
        with depot.making("a") as folder:
            assert folder is not None
            (folder / "ram").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert keys(depot) == []
    assert list(tmp_path.iterdir()) == []


def test_the_second_maker_waits_and_takes_what_the_first_made(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    seen: list[Path | None] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with Depot(tmp_path, LIMITS).making("a") as folder:
            seen.append(folder)

    thread = threading.Thread(target=second)
    with depot.making("a") as folder:
        assert folder is not None
        thread.start()
        begun.wait()
    thread.join()
    assert seen == [None]


def test_what_a_killed_maker_left_is_swept_but_not_what_a_living_one_fills(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    (tmp_path / "new-dead-1").mkdir()
    with depot.making("alive") as folder:
        assert folder is not None
        depot.prune()
        assert folder.exists()
    assert not (tmp_path / "new-dead-1").exists()
    assert keys(depot) == ["alive"]


def test_prune_removes_the_least_recently_used_until_it_fits(tmp_path: Path) -> None:
    depot = Depot(tmp_path, Limits(bytes=1 << 30))
    made(depot, "old", 600_000, age=300)
    made(depot, "older", 600_000, age=600)
    assert [kept.key for kept in depot.prune(LIMITS)] == ["older"]
    assert keys(depot) == ["old"]


def test_prune_removes_what_was_not_used_for_long_but_never_what_is_in_use(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    made(depot, "idle", age=15 * 86400)
    with depot.using("idle"):
        os.utime(tmp_path / "idle", (0, 0))
        assert depot.prune() == []
    os.utime(tmp_path / "idle", (0, 0))
    assert [kept.key for kept in depot.prune()] == ["idle"]


def test_using_counts_as_use(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    path = made(depot, "a", age=15 * 86400)
    with depot.using("a"):
        assert depot.prune() == []
    assert path.exists()


def test_discard_waits_for_users_and_the_next_making_makes(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    made(depot, "a")
    thread = threading.Thread(target=lambda: Depot(tmp_path, LIMITS).discard("a"))
    with depot.using("a") as folder:
        thread.start()
        assert folder is not None
        assert folder.exists()
    thread.join()
    with depot.making("a") as scratch:
        assert scratch is not None


def test_the_file_of_a_lock_goes_with_what_it_was_for(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    made(depot, "discarded")
    depot.discard("discarded")
    made(depot, "pruned", age=15 * 86400)
    (tmp_path / ".left-by-who-was-killed.lock").touch()
    (tmp_path / "new-dead-1").mkdir()
    depot.prune()
    assert list(tmp_path.iterdir()) == []
    made(depot, "kept")
    depot.prune()
    depot.prune(Limits(bytes=0), dry_run=True)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", ".kept.lock"}


def before_it_is_locked(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have that done once, by somebody else, when a lock's file has been opened and not yet been locked."""
    real, left = fcntl.flock, [do]

    def flock(file: Any, how: int) -> None:
        if left:
            left.pop()()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_who_waited_for_a_lock_that_is_gone_locks_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot, other = Depot(tmp_path, LIMITS), Depot(tmp_path, LIMITS)
    made(depot, "a")
    before_it_is_locked(monkeypatch, lambda: other.discard("a"))
    with depot.making("a") as folder:
        assert folder is not None
        with pytest.raises(BlockingIOError), other.making("a", wait=False):
            pass


@pytest.mark.parametrize("writable", [True, False])
def test_who_uses_what_was_made_anew_holds_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    depot, other = Depot(tmp_path, LIMITS), Depot(tmp_path, LIMITS)
    made(depot, "a")

    def anew() -> None:
        other.discard("a")
        made(other, "a")

    monkeypatch.setattr("harness.host.depot._writable", lambda path: writable)
    before_it_is_locked(monkeypatch, anew)
    with depot.using("a") as folder:
        assert folder is not None
        with pytest.raises(BlockingIOError):
            other.discard("a", wait=False)


def test_who_does_not_wait_is_told(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    with depot.making("a"), pytest.raises(BlockingIOError), depot.making("a", wait=False):
        pass
    with depot.using("a"), depot.using("a", wait=False), pytest.raises(BlockingIOError):
        depot.discard("a", wait=False)
    assert keys(depot) == ["a"]


def test_discard_leaves_what_is_another_one_by_now(tmp_path: Path) -> None:
    depot = Depot(tmp_path, LIMITS)
    path = made(depot, "a")
    depot.discard("a", still=lambda folder: folder != path)
    assert keys(depot) == ["a"]
    depot.discard("a", still=lambda folder: folder == path)
    assert keys(depot) == []


def test_all_in_a_folder_is_synced_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
    )
    (tmp_path / "vsock").mkdir()
    (tmp_path / "vsock/ram").write_bytes(b"x")
    sync(tmp_path)
    assert set(synced) == {str(tmp_path), str(tmp_path / "vsock"), str(tmp_path / "vsock/ram")}


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on no file can be opened for writing or made; gives what was tried."""
    tried: list[str] = []
    opened = Path.open

    def refusing(path: Path, mode: str = "r", *rest: Any) -> Any:
        if mode != "r":
            tried.append(path.name)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, mode, *rest)

    def begin(path: Path, how: int) -> bool:
        monkeypatch.setattr(Path, "open", refusing)
        return False

    monkeypatch.setattr("harness.host.depot._writable", lambda path: begin(path, 0))
    return tried


def test_what_is_there_is_used_where_nothing_can_be_written(tmp_path: Path, read_only: list[str]) -> None:
    depot = Depot(tmp_path, LIMITS)
    path = made(depot, "a")
    with depot.using("a") as found, depot.using("a") as again:
        assert found == again == path
        with pytest.raises(BlockingIOError), (tmp_path / ".a.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert read_only == []
    (tmp_path / ".a.lock").unlink()
    with depot.using("a") as found:
        assert found == path
    with pytest.raises(InfrastructureError, match=r"nothing can be kept in .*: Read-only file system"):
        with depot.making("b"):
            pass


def test_what_is_in_a_fixed_root_is_used_and_nothing_written(tmp_path: Path, read_only: list[str]) -> None:
    fixed = made(Depot(tmp_path / "fixed", LIMITS), "a")
    depot = Depot(tmp_path / "ours", LIMITS, fixed=fixed.parent)
    with depot.using("a") as found, depot.using("b") as missing:
        assert (found, missing) == (fixed, None)
    assert read_only == []


def test_what_is_of_no_use_in_a_fixed_root_is_made_anew(tmp_path: Path) -> None:
    fixed = made(Depot(tmp_path / "fixed", LIMITS), "a")
    depot = Depot(tmp_path / "ours", LIMITS, fixed=fixed.parent)
    depot.discard("a")
    with depot.using("a") as missing:
        assert missing is None
    path = made(depot, "a")
    with depot.using("a") as found:
        assert found == path
    assert fixed.is_dir()


def test_a_read_only_place_is_known_as_such(tmp_path: Path) -> None:
    assert _writable(tmp_path)
    assert not _writable(Path("/proc/self"))


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="nothing can be kept in"):
        with Depot(tmp_path / "file" / "depot", LIMITS).making("a"):
            pass


def test_a_lock_that_can_not_be_opened_is_swept_by_who_can(tmp_path: Path) -> None:
    """As another user's; what was made is there all the same."""
    depot = Depot(tmp_path, LIMITS)
    (tmp_path / ".others.lock").mkdir()  # which root can't open either
    assert made(depot, "a").is_dir()
    assert depot.prune() == []


def test_a_file_system_that_does_not_say_how_large_it_is_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=0, f_bavail=0, f_frsize=0))
    assert free_bytes(tmp_path) >> 20 > 1 << 20
