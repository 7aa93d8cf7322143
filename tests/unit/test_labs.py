"""Which labs a run gets: restored, booted, replaced; with what `harness.lab` does itself left out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.host.runfolder import RunFolder
from harness.lab import background, deploy, lab, saved
from harness.lab.address import Address
from harness.model.errors import InfrastructureError
from harness.model.progress import Silent
from harness.plugin import hosts, labs
from tests.unit.hangs import HANGS


class World:
    """Records what would have been started; `broken` saved labs do not restore, `useless` ones answer and no
    more. Where the disk is `full`, no lab comes up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.said: list[str] = []
        self.broken = False
        self.useless = False
        self.full = False
        self.hangs = False
        self.boots = threading.Event()
        self.unsavable = False
        self.read_only = False
        self.discarded: list[str] = []
        self.layouts: list[deploy.Layout] = []
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
        self,
        wish: object,
        folder: RunFolder,
        *,
        name: str,
        log_folder: Path,
        saved: Path | None,
        halt: background.Halt,
    ) -> Iterator[lab.Lab]:
        how = "restore" if saved else "boot"
        self.said.append(f"{how} {name} {log_folder.name}")
        if saved and self.broken:
            raise InfrastructureError("torn state")
        if self.hangs:
            ended = threading.Event()
            halt.set(ended.set)
            self.boots.set()
            assert ended.wait(HANGS)
            raise asyncio.CancelledError
        if self.full:
            raise InfrastructureError("no space left")
        log_folder.mkdir(parents=True, exist_ok=True)
        yield lab.Lab(address=None, pid=os.getpid(), boot_seconds=1.0, accel=None)  # type: ignore[arg-type]
        self.said.append(f"end {name}")

    @contextlib.contextmanager
    def deployed(
        self, address: object, layout: deploy.Layout, alias: str, *_: object, **how: Any
    ) -> Iterator[str]:
        if how["restored"] and self.useless:
            raise InfrastructureError("no answer in 60 s")
        self.layouts.append(layout)
        yield f"{alias} {how['restored']}"

    @contextlib.contextmanager
    def held(self, *_: object) -> Iterator[Path]:
        if self.unsavable:
            raise InfrastructureError("disk full", hint="make room")
        yield Path("/saved")
        self.said.append("released")

    def discard(self, key: str) -> None:
        assert self.said[-1] == "released", "a lock that this run holds would be waited for"
        if self.read_only:
            raise InfrastructureError("/cache/labs/key can't be removed: Read-only file system")
        self.discarded.append(key)

    @contextlib.contextmanager
    def using(self, key: str) -> Iterator[Path]:
        yield Path("/saved")

    @contextlib.contextmanager
    def opened(self, notes: list[str], *, fresh: bool = False, **more: Any) -> Iterator[Any]:
        wish: Any = type("Wish", (), {"memory_mib": 4096})()
        with labs.opened(wish, self.folder, self.logs, Silent(), fresh=fresh, notes=notes, **more) as ours:
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


def test_a_run_that_ends_ends_labs_that_still_come_up(world: World) -> None:
    world.hangs = True
    seen: list[BaseException] = []

    def start(ours: Any) -> None:
        try:
            ours.start("lab0")
        except BaseException as error:  # noqa: BLE001 -- looked at by the test
            seen.append(error)

    with world.opened([]) as ours:
        thread = threading.Thread(target=start, args=(ours,), daemon=True)
        thread.start()
        assert world.boots.wait(HANGS)
    thread.join(HANGS)
    assert [type(error) for error in seen] == [asyncio.CancelledError]
    assert world.said == ["restore lab0 lab0", "released"], "it is neither booted instead nor discarded"
    assert world.discarded == []


def test_one_that_does_not_restore_is_booted_and_thrown_away_for_good(world: World) -> None:
    world.broken = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.start("lab0") == "lab0 False"
        ours.start("lab1")
    assert world.said[:3] == ["restore lab0 lab0", "boot lab0 lab0-2", "boot lab1 lab1"]
    assert world.discarded == ["key"]
    assert "torn state" in notes[0]


def test_one_that_answers_is_not_thrown_away_for_what_goes_wrong_then(world: World) -> None:
    world.useless = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.start("lab0") == "lab0 False"
        world.useless = False
        assert ours.start("lab1") == "lab1 True"
    assert world.discarded == []
    assert notes == ["lab: lab0 was restored, was no use, and booted: no answer in 60 s"]


def test_where_no_lab_comes_up_the_saved_one_is_not_to_blame(world: World) -> None:
    world.full = True
    with (
        pytest.raises(InfrastructureError, match="no space left") as caught,
        world.opened([]) as ours,
    ):
        ours.start("lab0")
    assert world.discarded == []
    assert caught.value.__notes__ == ["nor could a saved one be used: no space left"]


def test_one_that_neither_restores_nor_can_be_removed_is_told_of(world: World) -> None:
    world.broken = world.read_only = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert ours.start("lab0") == "lab0 False"
    assert notes == [
        "lab: the saved one did not restore and stays (/cache/labs/key can't be removed: Read-only file "
        "system): torn state"
    ]


def test_where_none_can_be_saved_labs_are_booted_and_the_reason_told_at_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.unsavable = True
    notes: list[str] = []
    with world.opened(notes) as ours:
        assert caplog.messages == [f"{notes[0]}\nhint: make room"]
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


def test_a_kept_lab_that_dies_is_followed_by_one_of_the_runs_own(world: World, tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_text("all is well\n")
    prepared: list[object] = []
    layout = msgspec.structs.replace(deploy.LAB, work=PurePosixPath("/work-1"))
    with world.opened([], instead_of=layout) as ours:
        kept: Any = SimpleNamespace(address=Address(host="127.0.0.1", port=1))
        fleet = hosts.Fleet({"kept": kept}, "the kept lab", ours, {"kept": console})
        fleet.prepare = prepared.append
        fleet.fetch = lambda remote: pytest.fail("its evidence is not to be had")
        assert world.said == []
        assert fleet.fixed("kept") is fleet.trouble("kept") is None
        console.write_text("[ 1.0] kernel BUG at mm/slub.c:1!\n")
        assert "kernel BUG" in (fleet.trouble("kept") or "")
        fleet.replace("kept")
        assert list(map(str, fleet.remotes.values())) == ["kept True"]
        assert prepared == ["kept True"]
        assert fleet.trouble("kept") is None
    assert world.said == ["restore kept kept", "end kept"]
    assert world.layouts == [layout], "what workers are told is where they find it"


def test_an_emulators_end_is_trouble(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with world.opened([]) as ours, subprocess.Popen(["sleep", "60"]) as emulator:
        monkeypatch.setattr(os, "getpid", lambda: emulator.pid)
        ours.start("lab0")
        assert ours.trouble("lab0") is None
        emulator.kill()
        emulator.wait()
        assert ours.trouble("lab0") == "lab0: its emulator has ended"
        ours.kill("lab0")
        assert ours.trouble("lab0") is None
