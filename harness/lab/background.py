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
def entered(make: Callable[[], AbstractAsyncContextManager[T]], halt: Halt | None = None) -> Iterator[T]:
    """Enter the context on a thread of its own, leave it there when the `with` is left.

    The thread lives as long as the `with`, so what the context starts may be bound to it (PR_SET_PDEATHSIG).
    Errors of entering and of leaving are raised here; `asyncio.CancelledError` is that of an entering which
    `halt` stopped.
    """
    held: _Held[T] = _Held(make)
    thread = threading.Thread(target=held.run, name="vsock-harness lab", daemon=True)
    try:
        if halt:
            halt.set(held.end)
        thread.start()
        yield held.ready.result()
    finally:
        # also where an interrupt came between any two lines of these: whatever it has entered is left
        held.end()
        if thread.ident is not None:
            thread.join()
    held.done.result()


class Halt:
    """Lets another thread than the one in `entered` end what that enters, even while it still does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = False
        self._end: Callable[[], None] = lambda: None

    def set(self, end: Callable[[], None]) -> None:
        """What is to be called, at once if it has been said."""
        with self._lock:
            self._end = end
            if self._said:
                end()

    def say(self) -> None:
        """End it; returns at once, and may come before anything has begun."""
        with self._lock:
            self._said = True
            self._end()


class _Held(Generic[T]):
    """What happens on the thread: `ready` has what was entered, or why it was not; `done` how it was left."""

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
                self.ready.set_exception(asyncio.CancelledError())
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
