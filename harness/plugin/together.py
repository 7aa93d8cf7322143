"""One thing done with several hosts at once."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def all_at_once(aliases: Iterable[str], do: Callable[[str], T]) -> dict[str, T]:
    """Do it for each in a thread of its own; if one fails, or on Ctrl-C, the caller ends the hosts.

    Then nobody waits for the other threads, not even the interpreter's end, as it would for a pool's: they
    may wait for a host that says nothing.
    """
    futures: dict[str, concurrent.futures.Future[T]] = {}

    def run(alias: str, future: concurrent.futures.Future[T]) -> None:
        try:
            future.set_result(do(alias))
        except BaseException as error:  # noqa: BLE001 -- carried to the thread that asked
            future.set_exception(error)

    for alias in aliases:
        future = futures[alias] = concurrent.futures.Future()
        name = f"vsock-harness host {alias}"
        threading.Thread(target=run, args=(alias, future), name=name, daemon=True).start()
    return {alias: future.result() for alias, future in futures.items()}
