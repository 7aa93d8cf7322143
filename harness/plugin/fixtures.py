"""Fixtures for tests that data can't say."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from harness.host import admission
from harness.host.speed import measure
from harness.model.errors import HostUnfit
from harness.model.link import Link
from harness.plugin import evidence
from harness.plugin.bench import SLOWNESS, Bench
from harness.run import pod
from harness.run.place import Place

T = TypeVar("T")


class Pods:
    """Boots pods for one test, in an event loop of its own; all end with the test."""

    def __init__(
        self,
        place: Place,
        folder: Path,
        runner: asyncio.Runner,
        stack: contextlib.AsyncExitStack,
        *,
        strict: bool = False,
    ) -> None:
        self.place = place
        self.folder = folder
        self.run = runner.run
        self._stack = stack
        self._strict = strict
        self._count = 0

    def boot(self, *links: Link) -> pod.Pod:
        """A pod with these links, booted from nothing."""
        return self.enter(pod.booted(self.place, links, self._next()))

    def clone(self, *links: Link, own_memory: bool = False) -> pod.Pod:
        """A pod that goes on from this host's template; it has every serial link, and a vsock
        device if one is asked for.

        :param own_memory: as of `harness.run.pod.CloneWish`; who moves the pod to another QEMU needs it.
        """
        wish = pod.CloneWish(own_memory=own_memory)
        return self.enter(pod.cloned(self.place, links, self._next(), wish))

    def close(self) -> None:
        """End all of them now.

        :raise HarnessError: what was wrong with one of them, as when a test ends.
        """
        self.run(self._stack.aclose())

    def _next(self) -> Path:
        if self._count:
            self._stack.enter_context(admission.another())
        self._count += 1
        return self.folder / f"pod-{self._count}"

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context that is left when the test ends.

        Where this host lacks what it needs the test is skipped, but for --strict-host.
        """
        try:
            return self.run(self._stack.enter_async_context(context))
        except HostUnfit as error:
            if self._strict:
                raise
            pytest.skip(f"{error.ability}: {error.summary}")


def _folder_name(node_id: str) -> str:
    """What a test's folder is called: two modules may have tests of one name. NAME_MAX is 255 bytes."""
    return re.sub(r"[^\w.-]+", "-", node_id).encode()[-255:].decode(errors="ignore").strip("-")


@pytest.fixture
def pods(request: pytest.FixtureRequest) -> Iterator[Pods]:
    """A factory of pods; skips, naming the ability, where the host can't run any.

    No pod of this process's other items is there meanwhile.
    """
    bench = Bench.of(request.config)
    bench.end_shared()
    strict = bool(request.config.option.vsock_strict)
    try:
        place = bench.place
    except HostUnfit as error:
        if strict:
            raise
        pytest.skip(f"{error.ability}: {error.summary}")
    folder = bench.results / _folder_name(request.node.nodeid)
    request.node.stash[evidence.FOLDER] = folder
    with admission.admitted(), asyncio.Runner() as runner:
        # a host's speed changes with what else it does
        request.node.user_properties.append((SLOWNESS, round(measure(), 2)))
        stack = contextlib.AsyncExitStack()
        try:
            yield Pods(place, folder, runner, stack, strict=strict)
        finally:
            runner.run(stack.aclose())
