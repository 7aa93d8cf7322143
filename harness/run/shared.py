"""Pods that items use one after the other: those of clients whose pod nothing is done to."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.model.link import Link
from harness.run import pod
from harness.run.place import Place


class Shared:
    """Clones of the template of `place`, each made when somebody first needs it.

    All of one event loop; `close` ends them. Their evidence goes into folders of `results` called `name` and
    by what they were made for.
    """

    def __init__(self, place: Place, results: Path, name: str) -> None:
        self._place = place
        self._results = results
        self._name = name
        self._pods: dict[Link, pod.Pod] = {}
        self._stack = contextlib.AsyncExitStack()

    async def pod(self, link: Link) -> pod.Pod:
        """One that has `link`: a new one only if none does. Every clone has the serial ports.

        :raise: as `harness.run.pod.cloned`.
        """
        has = self._pods.get(link)
        if has is None and link.is_serial_port and not link.is_proxied:
            has = next(iter(self._pods.values()), None)
        if has is None:
            folder = _new(self._results, f"{self._name}-{link}")
            clone = pod.cloned(self._place, [link], folder)
            has = self._pods[link] = await self._stack.enter_async_context(clone)
        return has

    async def close(self) -> None:
        """End them.

        :raise HarnessError: what was wrong with one of them.
        """
        self._pods.clear()
        await self._stack.aclose()


def _new(parent: Path, name: str) -> Path:
    """A folder that is not there yet: of pods that were ended and made again, each has its own."""
    number, folder = 1, parent / name
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder
