"""SIGTERM and Ctrl-C as orderly ends: what a command has begun is taken back, whoever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

PATIENCE = b"vsock-harness: ending what was begun; Ctrl-\\ ends this program at once\n"
"""Said for each further signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: all that an interrupt ends is ended."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` while the `with` lasts. Nothing changes outside the main thread."""
    with _handling({signal.SIGTERM: _terminate}):
        yield


@contextlib.contextmanager
def once() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises `KeyboardInterrupt`; further ones are answered by a line only.

    So no impatient second Ctrl-C cuts the ending short. Nothing changes outside the main thread.
    """

    def first(number: int, frame: FrameType | None) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, further)
        raise KeyboardInterrupt

    def further(number: int, frame: FrameType | None) -> None:
        os.write(2, PATIENCE)

    with _handling({signal.SIGINT: first, signal.SIGTERM: first}):
        yield


@contextlib.contextmanager
def _handling(handlers: dict[signal.Signals, signal._HANDLER]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None is a handler that was not set by Python
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
