"""Scenarios that are Python: their own functions, given pods that are no VMs."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from harness.model.link import Endpoint, Link
from tests.unit.traces import SCENARIOS


def module(name: str) -> ModuleType:
    """The module `name` of the folder of scenarios, as pytest imports it."""
    sys.path.insert(0, str(SCENARIOS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCENARIOS))


class Told(dict[str, object]):
    """What a test recorded, the last of each name; is given to it as `record_property`."""

    def __call__(self, name: str, value: object) -> None:
        self[name] = value


class Pods:
    """In the place of the fixture: gives out pods that were made before, or makes them."""

    def __init__(self, make: Callable[[], object], folder: Path, place: object = None) -> None:
        self.place: Any = place or guest("6.12.118")
        self.folder = folder
        self._make = make

    def clone(self, *links: Link, own_memory: bool = False) -> object:
        return self._make()

    def run(self, work: Coroutine[Any, Any, object]) -> object:
        return asyncio.run(work)

    def enter(self, context: AbstractAsyncContextManager[object]) -> object:
        return self._make()


def guest(kernel: str) -> Any:
    """A place whose guests have this kernel."""
    return SimpleNamespace(guest=SimpleNamespace(manifest=SimpleNamespace(kernel=kernel)))


def pod(path: Path, pid: int = 0, device: int | None = None) -> Any:
    """A pod whose agent is at `path`, whatever the link; its QEMU and its vsock device are processes."""

    async def check() -> None:
        """Nothing is wrong with it."""

    return SimpleNamespace(
        # as of a link with many clients and a socket beside which the guest finds the host's ports
        endpoint=lambda link: Endpoint(link=Link.SERIAL_PROXY, path=str(path)),
        machine=SimpleNamespace(pid=pid, check=lambda: None),
        device=None if device is None else SimpleNamespace(pid=device),
        check=check,
        hello=None,
        qemu="10.0.3",
        seconds={},
    )
