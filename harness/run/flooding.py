"""When a client that floods begins to hold, and when it stops before all is through."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from harness.model.steps import Flood, Way
from harness.run.tap import Tap

BUFFERED = 2 << 20
"""Bytes of a flood to the guest that no buffers between take (`harness.agent.bulk`): some were read then."""


class Flooding:
    """Looks whenever bytes have moved: `moved` is for `Steps.flood`.

    `begin` is called once, when the agent has taken part; `leave` when there is an order of the coordinator's
    on `pipe`, which can only be to leave.
    """

    def __init__(
        self, step: Flood, tap: Tap, pipe: socket.socket, begin: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self._least = tap.sent + BUFFERED if step.way is Way.SEND else 0
        self._tap = tap
        self._begin, self._leave = begin, leave
        self._begun = False
        self._orders = select.poll()
        self._orders.register(pipe, select.POLLIN)

    def moved(self, _: int) -> None:
        """Some bytes moved."""
        if self._tap.sent >= self._least:
            self.through()
        if self._orders.poll(0):
            self._leave()

    def through(self) -> None:
        """It has begun, at the latest when all is through."""
        if not self._begun:
            self._begun = True
            self._begin()
