"""A template that does not do: thrown away or kept, waited for, made again. Real ones: tests/vm."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.host.depot import Depot
from harness.model.errors import GuestCrashed, HarnessError, SystemFailure
from harness.model.link import Link
from harness.run import pod, templates
from harness.run.place import Place
from harness.vm.launch import QemuDidNotStart
from harness.vm.machine import Machine
from harness.vm.template import NotRestored
from tests.unit.hangs import HANGS
from tests.unit.test_templates import here, whole

__all__ = ["here"]


class Doing:
    """In the place of making a template, of QEMU, and of its guest's first answer; each has its troubles."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
        self.place = place
        self.made = 0
        self.starting: list[HarnessError] = []
        self.greeting: list[HarnessError] = []
        self.making: Callable[[], Any] = lambda: asyncio.sleep(0)
        monkeypatch.setattr(templates, "_make", self.make)
        monkeypatch.setattr(Machine, "start", self.start)
        monkeypatch.setattr(pod, "greet", self.greet)

    @property
    def saved(self) -> Path:
        return self.place.templates.root / templates.key(self.place)

    async def make(self, place: Place, folder: Path, log_folder: Path) -> None:
        self.made += 1
        await self.making()
        saved(folder, place)

    @contextlib.asynccontextmanager
    async def start(self, *_: object, log_folder: Path, **__: object) -> AsyncIterator[None]:
        write(log_folder, f"of template {self.made}")
        if self.starting:
            raise self.starting.pop(0)
        yield

    async def greet(self, *_: object, **__: object) -> Any:
        await asyncio.sleep(0)
        if self.greeting:
            raise self.greeting.pop(0)

    def clone(self, folder: Path) -> None:
        asyncio.run(self.cloned(folder))

    async def cloned(self, folder: Path) -> None:
        async with pod.cloned(self.place, [Link.VIRTIO_SERIAL], folder):
            pass


def saved(folder: Path, place: Place) -> None:
    folder.rmdir()
    whole(folder, place)


def write(log_folder: Path, text: str) -> None:
    log_folder.mkdir(exist_ok=True)
    (log_folder / "console.log").write_text(text)


@pytest.fixture
def doing(here: Place, monkeypatch: pytest.MonkeyPatch) -> Doing:
    here.templates.limits = msgspec.structs.replace(here.templates.limits, bytes=1 << 30)
    return Doing(monkeypatch, here)


@pytest.mark.parametrize("when", ["starting", "greeting"])
def test_what_does_not_restore_or_answer_is_thrown_away_once(doing: Doing, when: str, tmp_path: Path) -> None:
    doing.clone(tmp_path / "first")
    getattr(doing, when).append(NotRestored("torn") if when == "starting" else GuestCrashed("oops"))
    doing.clone(tmp_path / "second")
    assert doing.made == 2
    assert (tmp_path / "second/not-restored/console.log").read_text() == "of template 1"
    assert (tmp_path / "second/console.log").read_text() == "of template 2"


def test_of_a_new_template_a_missing_answer_is_told_as_it_is(doing: Doing, tmp_path: Path) -> None:
    doing.greeting = [GuestCrashed("oops"), SystemFailure("another agent")]
    with pytest.raises(SystemFailure, match="another agent") as caught:
        doing.clone(tmp_path / "logs")
    assert "a template was thrown away before" in caught.value.__notes__[0]
    assert doing.made == 2
    assert doing.saved.exists()


def test_a_qemu_that_does_not_start_is_no_templates_fault(doing: Doing, tmp_path: Path) -> None:
    doing.starting = [QemuDidNotStart("Cannot allocate memory")]
    with pytest.raises(QemuDidNotStart):
        doing.clone(tmp_path / "logs")
    doing.clone(tmp_path / "again")
    assert doing.made == 1


def test_it_is_on_disk_before_anybody_finds_it(
    doing: Doing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(doing.saved.exists()))
    doing.clone(tmp_path / "first")
    assert synced == [False] * 3
    doing.clone(tmp_path / "second")
    assert len(synced) == 3, "cloning waits for no disk"


@pytest.mark.parametrize("lost", ["ram", "state"])
def test_one_that_is_not_whole_is_made_again(doing: Doing, lost: str, tmp_path: Path) -> None:
    doing.clone(tmp_path / "first")
    (doing.saved / lost).unlink()
    doing.clone(tmp_path / "second")
    assert doing.made == 2


def test_another_ones_new_template_is_not_thrown_away(doing: Doing, tmp_path: Path) -> None:
    """Two that go on from a damaged one at once: the second to find out meets the first one's new one."""
    doing.clone(tmp_path / "first")
    there, new = asyncio.Event(), asyncio.Event()

    async def use() -> None:
        async with templates.held(doing.place, tmp_path / "logs"):
            there.set()
            await new.wait()
            raise NotRestored("torn")

    async def one_after_the_other() -> None:
        late = asyncio.create_task(use())
        await there.wait()
        doing.saved.rename(tmp_path / "old")
        whole(doing.saved, doing.place)
        new.set()
        with pytest.raises(NotRestored):
            await late

    asyncio.run(one_after_the_other())
    assert doing.saved.exists()


def test_one_loop_uses_and_throws_away_at_once(
    doing: Doing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a template's users must not stop them."""
    doing.clone(tmp_path / "first")
    used = asyncio.Event()
    unwanted = nth_call(monkeypatch, doing.place.templates, "discard", 1)

    async def use() -> None:
        async with templates.held(doing.place, tmp_path / "logs"):
            used.set()
            await unwanted.wait()

    async def throw_away() -> None:
        async with templates.held(doing.place, tmp_path / "logs"):
            await used.wait()
            raise NotRestored("torn")

    async def both() -> None:
        async with asyncio.timeout(HANGS):
            _, thrown = await asyncio.gather(use(), throw_away(), return_exceptions=True)
        assert isinstance(thrown, NotRestored)

    asyncio.run(both())
    assert not doing.saved.exists()


def test_two_of_one_loop_make_it_once(doing: Doing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is at it when the second wants to be."""
    doing.making = nth_call(monkeypatch, doing.place.templates, "making", 2).wait

    async def both() -> None:
        async with asyncio.timeout(HANGS):
            await asyncio.gather(doing.cloned(tmp_path / "one"), doing.cloned(tmp_path / "two"))

    asyncio.run(both())
    assert doing.made == 1


def nth_call(monkeypatch: pytest.MonkeyPatch, depot: Depot, name: str, number: int) -> asyncio.Event:
    """Set when that method is called for that time."""
    came, real, left = asyncio.Event(), getattr(depot, name), [number]

    def call(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            came.set()
        return real(*args, **named)

    monkeypatch.setattr(depot, name, call)
    return came
