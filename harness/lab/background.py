"""An event loop beside a program that has none: keeps one async context entered until told to leave."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def entered(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Enter the context on a thread of its own, leave it there when the `with` is left.

    The thread lives as long as the `with`, so what the context starts may be bound to it (PR_SET_PDEATHSIG).
    Errors of entering and of leaving are raised here.
    """
    held: _Held[T] = _Held(make)
    thread = threading.Thread(target=held.run, name="vsock-harness lab", daemon=True)
    try:
        thread.start()
        yield held.ready.result()
    finally:
        # also where an interrupt came between any two lines of these: whatever it has entered is left
        held.end()
        if thread.ident is not None:
            thread.join()
    held.done.result()


class _Held(Generic[T]):
    """What happens on the thread: `ready` has what was entered, or why it was not; `done` how leaving went.

    Neither is set where it was told to end before it had entered.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self.ready: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._make = make
        self._lock = threading.Lock()
        self._ended = False
        self._stop: Callable[[], object] = lambda: None

    def run(self) -> None:
        """Until `end`, or what went wrong."""
        asyncio.run(self._hold())

    def end(self) -> None:
        """Leave what was entered, or stop entering; at once if that has not begun. Returns at once."""
        with self._lock:
            self._ended = True
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._stop()

    async def _hold(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            if self.ready.done():
                stop.set()
            else:
                task.cancel()

        with self._lock:
            if self._ended:
                return
            self._stop = lambda: loop.call_soon_threadsafe(leave)
        try:
            async with self._make() as value:
                self.ready.set_result(value)
                await stop.wait()
        except BaseException as error:  # noqa: BLE001 -- carried to the other thread, whatever it is
            (self.done if self.ready.done() else self.ready).set_exception(error)
        else:
            self.done.set_result(None)
