"""A pytest plugin (`-p tests.unit.fake_host`): a host whose pods are traces, so that whole runs need no VM.

What a link does is named by the environment, FAKE_HOST as JSON: `{"virtio-serial": "served"}`. Without a
name, it behaves as it should.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.image.store import Store
from harness.model.errors import GuestCrashed, HostUnfit, InfrastructureError
from harness.model.link import Endpoint, Link
from harness.model.plan import Plan
from harness.model.spec import Accel
from harness.model.trace import Event
from harness.plugin import bench, hosts, item
from harness.run import faults, pod
from harness.run.coordinator import PlanOverdue
from tests.unit import runs, traces

KNOWN = ("right", "served", "unfit", "broken", "crashed", "crashed-early", "overdue", "ctrl-c", "broken-end")


def pytest_addoption() -> None:
    """Put the pretence in the place of hosts and pods, before anything looks for them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(hosts, "choose", lambda *_: hosts.Choice("local", "a host that is none"))
    patch.setattr(Store, "get", lambda *_: None)
    manifest = SimpleNamespace(kernel="6.12.118")
    guest = SimpleNamespace(name="pod", id="0123456789abcdef", manifest=manifest)
    qemu = SimpleNamespace(version="10.0.3", argv=["qemu"])
    place = SimpleNamespace(qemu=qemu, accel=Accel.KVM, guest=guest, notes=("a note of the host",))
    patch.setattr(bench.Bench, "place", place)
    patch.setattr(bench.Bench, "nursery", None)
    patch.setattr(pod, "cloned", _pod)
    patch.setattr(item, "run_plan", _seen)
    patch.setattr(item, "copying", lambda *_: None)
    patch.setattr(faults.PodFault, "prepared", lambda *_: contextlib.nullcontext())


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_configure_node(node: Any) -> None:
    """With FAKE_ELSEWHERE, workers have a results folder of their own, as on another machine."""
    if elsewhere := os.environ.get("FAKE_ELSEWHERE"):
        setting = bench.Setting(elsewhere, images="/nowhere", shown="home")
        node.workerinput["vsock_harness"] = msgspec.json.encode(setting).decode()


def _behaviour(link: Link) -> str:
    word = str(json.loads(os.environ.get("FAKE_HOST", "{}")).get(link, "right"))
    assert word in KNOWN
    return word


@contextlib.asynccontextmanager
async def _pod(
    place: Any, links: Iterable[Link], folder: Path, *_: object, **__: object
) -> AsyncIterator[Any]:
    word = _behaviour(next(iter(links)))
    _evidence(folder)
    if word == "unfit":
        raise HostUnfit("this QEMU has no <isa-serial>", ability="qemu-device")
    if word == "broken":
        raise InfrastructureError("QEMU ended before its monitor answered", hint="qemu.stderr")
    if word == "crashed-early":
        raise GuestCrashed("BUG: unable to handle page fault")

    async def check() -> None:
        if word == "crashed":
            raise GuestCrashed("BUG: kernel NULL pointer dereference")

    yield SimpleNamespace(
        hello=runs.HELLO,
        qemu="10.0.3",
        seconds={"template": 0.0, "clone": 0.8, "hello": 0.5},
        endpoint=lambda link: Endpoint(link=link, path="/nowhere"),
        check=check,
        notes=(),
    )
    (folder / "ended").touch()
    if word == "broken-end":
        raise InfrastructureError("QEMU did not end")


def _evidence(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "console.log").write_text("Linux version 6.12\n")


async def _seen(plan: Plan, *_: Any, **__: Any) -> list[Event]:
    match _behaviour(plan.link):
        case "served":
            return traces.everybody_served(plan)
        case "ctrl-c":
            signal.raise_signal(signal.SIGINT)
        case "overdue":
            raise PlanOverdue("2 of 8 clients did not end", tuple(traces.right(plan)))
    return traces.right(plan)
