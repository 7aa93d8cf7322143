"""The template of a slow guest is made before the run's items, and told of; all else is as ever."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.lab import deploy
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit
from harness.model.spec import Accel
from harness.plugin import ahead
from harness.plugin.bench import RESULTS, Bench
from harness.run import templates


class Told:
    """Stages, as a user sees them."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        self.stages.append(what)
        yield


class Here:
    """This machine, which may be unfit; its templates are `there` once they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guest: str) -> None:
        self.there = self.unfit = False
        self.made: list[str] = []
        self.told = Told()
        self.config: Any = SimpleNamespace(
            stash={RESULTS: str(tmp_path)}, option=SimpleNamespace(vsock_guest=guest)
        )
        monkeypatch.setattr(Bench, "place", property(self.place))
        monkeypatch.setattr(templates, "is_there", lambda place: self.there)
        monkeypatch.setattr(templates, "held", self.held)

    def place(self, bench: Bench) -> str:
        if self.unfit:
            raise HostUnfit("no KVM, no emulator", ability="kvm")
        return bench._guest

    @contextlib.asynccontextmanager
    async def held(self, place: str, logs: Path) -> AsyncIterator[None]:
        self.made.append(f"{place} in {logs.name}")
        yield

    def run(self) -> None:
        ahead.made(self.config, self.told)


def test_a_distributions_is_made_once_with_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = Here(monkeypatch, tmp_path, "debian")
    here.run()
    assert here.made == ["debian in template"]
    assert here.told.stages == ["guest debian: booting it once, the agent comes by SSH"]
    here.there = True
    here.run()
    assert len(here.made) == len(here.told.stages) == 1


def test_ours_boots_when_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = Here(monkeypatch, tmp_path, "pod-forky")
    here.run()
    assert here.made == here.told.stages == []


class Remote:
    """A host reached by SSH, where what is run is run here."""

    layout = deploy.LAB
    accel = Accel.KVM

    def __init__(self, *, warm: bool) -> None:
        self.warm = warm
        self.ran: list[list[str]] = []
        self.ssh = self

    def run(self, argv: list[str], *, env: dict[str, str], deadline: Deadline) -> None:
        self.ran.append(argv)
        assert env == {"PYTHONPATH": f"{deploy.LAB.site}:{deploy.LAB.code}"}
        assert argv[:4] == ["python3", "-P", "-m", "harness.plugin.ahead"]
        ahead.main(argv[4:])


def test_other_hosts_are_asked_unless_they_were_saved_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = Here(monkeypatch, tmp_path, "debian")
    remotes = {"lab0": Remote(warm=True), "lab1": Remote(warm=False)}
    fleet: Any = SimpleNamespace(remotes=remotes)
    ahead.made_there(here.config, fleet, here.told)
    assert here.told.stages == ["guest debian: booting it once on lab1, the agent comes by SSH"]
    assert remotes["lab0"].ran == []
    assert here.made == ["debian in template"]
    here.config.option.vsock_guest = "pod"
    ahead.made_there(here.config, fleet, here.told)
    assert len(here.told.stages) == len(here.made) == 1


def test_what_the_machine_lacks_the_items_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = Here(monkeypatch, tmp_path, "debian")
    here.unfit = True
    here.run()
    assert here.made == here.told.stages == []
