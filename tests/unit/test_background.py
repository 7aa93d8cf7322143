"""A context that is entered on another thread: whatever interrupts it, and when, it is left again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from harness.lab import background

SECONDS = 20.0
"""For what takes none."""


class Place:
    """What is entered; `said` is what happened there."""

    def __init__(self, pause: float = 0.0) -> None:
        self.said: list[str] = []
        self._pause = pause

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[str]:
        try:
            await asyncio.sleep(self._pause)
            self.said.append("in")
            yield "value"
        finally:
            self.said.append("out")


def outcome(call: Callable[[], object]) -> BaseException | object:
    """What a call returns or raises, on a thread: one that waits for ever must fail its test only."""
    found: list[BaseException | object] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # noqa: BLE001 -- looked at by the test
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert found, "it waits for ever"
    return found[0]


def use(place: Place) -> str:
    with background.entered(place.entered) as value:
        place.said.append("used")
        return value


def test_it_is_entered_used_and_left() -> None:
    place = Place()
    assert outcome(lambda: use(place)) == "value"
    assert place.said == ["in", "used", "out"]


@pytest.mark.parametrize("at", ["in", "out"])
def test_what_goes_wrong_there_is_raised_here(at: str) -> None:
    @contextlib.asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        if at == "in":
            raise ValueError(at)
        yield
        raise ValueError(at)

    def enter() -> None:
        with background.entered(broken):
            pass

    error = outcome(enter)
    assert isinstance(error, ValueError)
    assert error.args == (at,)


class InterruptedJustAfter(concurrent.futures.Future[Any]):
    """Ctrl-C comes when the result is there, and nobody has it yet."""

    def result(self, timeout: float | None = None) -> Any:
        super().result(timeout)
        raise KeyboardInterrupt


class InterruptedBefore(concurrent.futures.Future[Any]):
    """Ctrl-C comes as soon as the result is waited for."""

    def result(self, timeout: float | None = None) -> Any:
        raise KeyboardInterrupt


class InterruptedAtStart(threading.Thread):
    """Ctrl-C comes when the thread runs, which whoever starts it does not know yet."""

    def start(self) -> None:
        super().start()
        raise KeyboardInterrupt


CASES = [
    (concurrent.futures, "Future", InterruptedJustAfter, 0.0, [["in", "out"]]),
    (concurrent.futures, "Future", InterruptedBefore, 600.0, [["out"], []]),
    (threading, "Thread", InterruptedAtStart, 600.0, [["out"], []]),
]


@pytest.mark.parametrize(("module", "name", "kind", "pause", "said"), CASES, ids=lambda case: str(case)[:24])
def test_an_interrupt_at_any_moment_leaves_it(
    module: Any, name: str, kind: type, pause: float, said: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(pause)

    def interrupted() -> object:
        monkeypatch.setattr(module, name, kind)
        return use(place)

    assert isinstance(outcome(interrupted), KeyboardInterrupt)
    assert place.said in said


def test_another_thread_can_end_what_is_still_being_entered() -> None:
    place, halt = Place(pause=600.0), background.Halt()

    def halted() -> None:
        threading.Timer(0.1, halt.say).start()
        with background.entered(place.entered, halt):
            raise AssertionError("entered")

    assert isinstance(outcome(halted), asyncio.CancelledError)
    assert place.said == ["out"]


def test_one_that_is_told_before_it_begins_does_not_begin() -> None:
    place, halt = Place(pause=600.0), background.Halt()
    halt.say()

    def halted() -> None:
        with background.entered(place.entered, halt):
            raise AssertionError("entered")

    assert isinstance(outcome(halted), asyncio.CancelledError)
    assert place.said == []
