"""The scenario of a distribution's guest goes red where a plan does on it, or the agent is sent otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.guest import inject
from harness.model.link import Endpoint, Link
from harness.model.spec import Accel
from harness.run.nursery import Nursery
from tests.unit import broken
from tests.unit.agents import serial_like_agent
from tests.unit.modules import Pods, Told, module, pod
from tests.unit.runs import HELLO
from tests.unit.test_arrival import Guest
from tests.unit.traces import plan

SCENARIO = module("test_distribution")


class Place(msgspec.Struct, frozen=True):
    """What of `harness.run.place.Place` is asked for."""

    distribution: Any = SimpleNamespace(name="debian", id="0123", manifest=SimpleNamespace(kernel="6.12.118"))
    guest: Any = distribution
    qemu: Any = None
    accel: Accel = Accel.KVM
    notes: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCENARIO, "slowness", lambda: 0.25)


def at_port(path: Path) -> Any:
    """A pod whose links are all one serial port."""
    made = pod(path)
    made.endpoint = lambda link: Endpoint(link=link, path=str(path))
    made.hello = HELLO
    return made


def different(words: str, folder: Path, nursery: Nursery) -> str:
    """The first difference of a plan, run by the scenario on a port whose agent these words break."""
    on_link = plan("serial-stale-reply", Link.VIRTIO_SERIAL)
    with serial_like_agent("port", words) as path:
        pods = Pods(lambda: None, folder, Place())
        return str(SCENARIO.passes(pods, pods.place, at_port(path), on_link, nursery))


def test_a_plan_on_it_is_judged(tmp_path: Path, nursery: Nursery) -> None:
    assert different("", tmp_path, nursery) == ""
    assert (tmp_path / "serial-stale-reply-virtio-serial/verdict.json").is_file()
    found = different(broken.NEVER_ANSWERS_LATE, tmp_path, nursery)
    assert found.startswith("serial-stale-reply: virtio-serial: group next: served 1 of 1, expected 0")


class Debian:
    """A guest with sshd; if it `forgets`, its file system is empty at each connection."""

    seconds = 40.0

    def __init__(self, *, forgets: bool = False) -> None:
        self._guest = Guest()
        self._forgets = forgets

    @contextlib.contextmanager
    def by_network(self) -> Iterator[Guest]:
        if self._forgets:
            self._guest = Guest()
        yield self._guest

    by_vsock = by_network


def whole(guest: Debian, folder: Path, monkeypatch: pytest.MonkeyPatch, *differences: str) -> Told:
    """What the scenario records whose plans have these differences."""
    left, told = list(differences), Told()
    monkeypatch.setattr(SCENARIO, "passes", lambda *_: left.pop(0) if left else "")
    monkeypatch.setattr(SCENARIO, "with_guest", lambda place, image: place)

    async def greeted(guest: Debian) -> None:
        """It answers."""

    monkeypatch.setattr(SCENARIO.distribution, "greeted", greeted)
    pods = Pods(lambda: guest, folder, Place())
    with contextlib.suppress(AssertionError):
        SCENARIO.test_distribution_guest_by_ssh(pods, told)
        told("passed", True)
    return told


def test_each_way_sends_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = whole(Debian(), tmp_path, monkeypatch)
    assert told["passed"]
    assert str(told["seen"]).endswith("and 0; 2 of 2 plans; sshd up after 40.0 s")


def test_what_is_sent_again_turns_it_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = whole(Debian(forgets=True), tmp_path, monkeypatch)
    assert "passed" not in told
    count = len(list(inject.AGENT.glob("*.py")))
    assert str(told["seen"]).startswith(f"files sent [{count}, 0, {count}, 0] and {count}; 2 of 2 plans")


def test_a_plan_that_differs_turns_it_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = whole(Debian(), tmp_path, monkeypatch, "", "serial-portable: virtio-serial: served 0, expected 1")
    assert "passed" not in told
    assert "; 1 of 2 plans; " in str(told["seen"])
