"""Which labs a run gets: restored, booted, replaced; with what `harness.lab` does itself left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.host.runfolder import RunFolder
from harness.lab import deploy, lab, saved
from harness.model.errors import InfrastructureError
from harness.model.progress import Silent
from harness.plugin import hosts, labs


class World:
    """Records what would have been started; `broken` saved labs do not restore."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.said: list[str] = []
        self.broken = False
        self.unsavable = False
        self.discarded: list[str] = []
        monkeypatch.setattr(lab, "up", self.up)
        monkeypatch.setattr(lab, "check_memory", lambda mib: None)
        monkeypatch.setattr(deploy, "deployed", self.deployed)
        monkeypatch.setattr(saved, "held", self.held)
        monkeypatch.setattr(saved, "labs", lambda: self)
        monkeypatch.setattr(labs, "lab_identity", lambda wish: "key")
        self.folder: Any = type("Folder", (), {"path": tmp_path})()
        self.logs = tmp_path / "logs"

    @contextlib.contextmanager
    def up(
        self, wish: object, folder: RunFolder, *, name: str, log_folder: Path, saved: Path | None
    ) -> Iterator[lab.Lab]:
        how = "restore" if saved else "boot"
        self.said.append(f"{how} {name} {log_folder.name}")
        if saved and self.broken:
            raise InfrastructureError("torn state")
        log_folder.mkdir(parents=True, exist_ok=True)
        yield lab.Lab(address=None, pid=1, boot_seconds=1.0, accel=None)  # type: ignore[arg-type]
        self.said.append(f"end {name}")

    @contextlib.contextmanager
    def deployed(self, address: object, layout: object, alias: str, *_: object, **how: Any) -> Iterator[str]:
        yield f"{alias} {how['restored']}"

    @contextlib.contextmanager
    def held(self, *_: object) -> Iterator[Path]:
        if self.unsavable:
            raise InfrastructureError("disk full")
        yield Path("/saved")
        self.said.append("released")

    def discard(self, key: str) -> None:
        assert self.said[-1] == "released", "a lock that this run holds would be waited for"
        self.discarded.append(key)

    @contextlib.contextmanager
    def opened(self, notes: list[str], *, fresh: bool = False) -> Iterator[Any]:
        wish: Any = type("Wish", (), {"memory_mib": 4096})()
        with labs.opened(wish, self.folder, self.logs, Silent(), fresh=fresh, notes=notes) as ours:
            yield ours


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def test_labs_are_restored_from_the_saved_one(world: World) -> None:
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.restores
        assert [ours.start("lab0"), ours.start("lab1")] == ["lab0 True", "lab1 True"]
    assert sorted(world.said) == [
        "end lab0",
        "end lab1",
        "released",
        "restore lab0 lab0",
        "restore lab1 lab1",
    ]
    assert notes == world.discarded == []


def test_fresh_labs_are_booted(world: World) -> None:
    with world.opened([], fresh=True) as ours:
        assert not ours.restores
        ours.start("lab0")
    assert world.said == ["boot lab0 lab0", "end lab0"]


def test_one_that_does_not_restore_is_booted_and_thrown_away_for_good(world: World) -> None:
    world.broken = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.start("lab0") == "lab0 False"
        ours.start("lab1")
    assert world.said[:3] == ["restore lab0 lab0", "boot lab0 lab0-2", "boot lab1 lab1"]
    assert world.discarded == ["key"]
    assert "torn state" in notes[0]


def test_where_none_can_be_saved_labs_are_booted_and_the_reason_told(world: World) -> None:
    world.unsavable = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.start("lab0") == "lab0 False"
    assert "disk full" in notes[0]
    assert "disk full" in (world.logs / "saved-lab" / "error.txt").read_text()


def test_a_replaced_lab_has_logs_of_its_own_and_its_trouble_is_its_own(world: World) -> None:
    with world.opened([]) as ours:
        ours.start("lab0")
        (world.logs / "lab0" / "console.log").write_text("[ 1.0] kernel BUG at mm/slub.c:1!\n")
        assert "kernel BUG" in (ours.trouble("lab0") or "")
        ours.end("lab0")
        ours.start("lab0")
        assert ours.trouble("lab0") is None
        assert ours.trouble("elsewhere") is None
    assert "restore lab0 lab0-2" in world.said


@pytest.mark.parametrize(
    ("wanted", "count", "most", "shared"),
    [
        (None, 2, 2, [1, 1]),
        (3, 2, 2, [2, 1]),
        (50, 2, 2, [2, 2]),
        (5, 3, None, [2, 2, 1]),
        (1, 2, None, [1, 1]),
    ],
)
def test_workers_are_shared_out(wanted: int | None, count: int, most: int | None, shared: list[int]) -> None:
    assert hosts.shares(wanted, count, most) == shared
