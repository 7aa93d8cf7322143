"""An event loop beside a program that has none: keeps one async context entered until told to leave."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def entered(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Enter the context on a thread of its own, leave it there when the `with` is left.

    The thread lives as long as the `with`, so what the context starts may be bound to it (PR_SET_PDEATHSIG).
    Errors of entering and of leaving are raised here.
    """
    ready: concurrent.futures.Future[T] = concurrent.futures.Future()
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    leave: list[Callable[[], None]] = []
    thread = threading.Thread(
        target=lambda: asyncio.run(_hold(make, ready, done, leave)), name="vsock-harness lab", daemon=True
    )
    thread.start()
    try:
        value = ready.result()
    except BaseException:
        if not ready.done():  # interrupted while it still enters
            for stop in leave:
                stop()
        thread.join()
        raise
    try:
        yield value
    finally:
        leave[0]()
        thread.join()
    done.result()


async def _hold(
    make: Callable[[], AbstractAsyncContextManager[T]],
    ready: concurrent.futures.Future[T],
    done: concurrent.futures.Future[None],
    leave: list[Callable[[], None]],
) -> None:
    """Runs on the thread: reports the entered context, waits for the word, reports how leaving went."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    task = asyncio.current_task()

    def end() -> None:
        loop.call_soon_threadsafe(stop.set if ready.done() else task.cancel if task else stop.set)

    leave.append(end)
    try:
        async with _reported(make(), ready):
            await stop.wait()
    except BaseException as error:  # noqa: BLE001 -- carried to the other thread, whatever it is
        if ready.done():
            done.set_exception(error)
        else:
            ready.set_exception(error)
            done.set_result(None)
    else:
        done.set_result(None)


@contextlib.asynccontextmanager
async def _reported(
    context: AbstractAsyncContextManager[T], ready: concurrent.futures.Future[T]
) -> AsyncIterator[None]:
    async with context as value:
        ready.set_result(value)
        yield
