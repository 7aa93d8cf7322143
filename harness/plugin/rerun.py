"""Hosts that fail in the middle of a run: how fresh ones are had in their places, on other threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from xdist.workermanage import WorkerController

from harness.model.errors import InfrastructureError


class Hosts(Protocol):
    """What is behind the workers' aliases."""

    def trouble(self, alias: str) -> str | None:
        """What is known to be wrong with that host itself (its kernel's crash quoted, its emulator's end).

        None if nothing is. Asked on the thread that serves all workers: answers at once, raises nothing.
        """

    def fixed(self, alias: str) -> str | None:
        """Why there is no other host than that one to be had for `alias`; None if `replace` may have one.

        As `trouble`: answers at once, raises nothing.
        """

    def replace(self, alias: str) -> None:
        """Put a fresh host behind the same alias, ready for workers: the same execnet spec leads to it.

        What the run's arguments name has to be on it, as on the first one: a worker that finds other items is
        done without. The evidence of the old host is lost unless it is fetched here; an old worker may still
        run there, what it tells is not listened to any more.

        Called on a thread of its own, for several aliases at once, for one never twice. It may still run when
        the run ends (on Ctrl-C, or as nothing is left to do): what ends the hosts then has to make it return,
        as the interpreter waits for that thread.

        :raise HarnessError: it can't be: it is no lab, or none comes up.
        """


class Replacing:
    """The replacements of a run, at most `most` of them; used on one thread.

    The workers that wait for a host are kept by its alias. Hosts have generations: who was born on an earlier
    one than the present has lost it already.
    """

    def __init__(self, hosts: Hosts, most: int, tell: Callable[[tuple[str, dict[str, Any]]], None]) -> None:
        self._hosts, self._most, self._tell = hosts, most, tell
        self._left = most
        self._waiting: dict[str, list[WorkerController]] = {}
        self._generation: dict[str, int] = {}
        self._born: dict[WorkerController, int] = {}
        self._pool = ThreadPoolExecutor(thread_name_prefix="vsock-harness replacing")

    @property
    def waited_for(self) -> bool:
        """Whether a worker waits for a host."""
        return any(self._waiting.values())

    def take(self) -> None:
        """Count one replacement, or one worker more.

        :raise InfrastructureError: there were as many as there may be.
        """
        if not self._left:
            raise InfrastructureError(f"{self._most} replacements were made in this run, which is the most")
        self._left -= 1

    def born(self, alias: str, worker: WorkerController) -> None:
        """A worker was started on that host as it is now."""
        self._born[worker] = self._generation.get(alias, 0)

    def is_replaced(self, alias: str, worker: WorkerController) -> bool:
        """Whether the host that the worker was started on is another one now."""
        return self._born.get(worker, 0) < self._generation.get(alias, 0)

    def begin(self, alias: str, worker: WorkerController) -> None:
        """Have that host replaced, if that is not under way; `worker` waits for it.

        At its end `tell` is called, on another thread, with the event `hostreplaced`: `alias`, `done` (its
        future), `seconds`.

        :raise InfrastructureError: there is no other to be had, or there were as many as there may be.
        """
        if why := self._hosts.fixed(alias):
            raise InfrastructureError(why)
        if alias in self._waiting:
            self._waiting[alias].append(worker)
            return
        self.take()
        self._waiting[alias] = [worker]
        began = time.monotonic()

        def ended(done: Future[None]) -> None:
            seconds = time.monotonic() - began
            self._tell(("hostreplaced", {"alias": alias, "done": done, "seconds": seconds}))

        self._pool.submit(self._hosts.replace, alias).add_done_callback(ended)

    def end(self, alias: str, done: Future[None]) -> list[WorkerController]:
        """Who waited for that host; it is another one from now on, unless `done` failed."""
        if done.exception() is None:
            self._generation[alias] = self._generation.get(alias, 0) + 1
        return self._waiting.pop(alias)

    def release(self) -> list[WorkerController]:
        """Nobody waits any more: who did until now."""
        released = [worker for waiting in self._waiting.values() for worker in waiting]
        for waiting in self._waiting.values():
            waiting.clear()
        return released

    def close(self) -> None:
        """What is under way is not waited for here."""
        self._pool.shutdown(wait=False, cancel_futures=True)
