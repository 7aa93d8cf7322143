"""A process beside a VM that one of its links goes through: a multiplexing proxy, a vsock device's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from harness.model.errors import SystemFailure
from harness.model.link import Endpoint
from harness.vm.machine import SETTLE_SECONDS, Machine

_QUOTED = 2000
"""Characters of its last words that an error quotes."""


class Beside:
    """Such a process while it runs, which should end no sooner than its VM does.

    `pid` is its process, `endpoint` where clients reach the agent through it.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, endpoint: Endpoint, log: Path) -> None:
        """Watch `process`, called `name` in messages, which writes what it says to `log`."""
        self.pid = process.pid
        self.endpoint = endpoint
        self._name = name
        self._process = process
        self._log = log
        self._machine: Machine | None = None
        self._end_expected = False

    def serves(self, machine: Machine) -> None:
        """From now on the end of `machine` is its end too."""
        self._machine = machine

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def ended(self) -> None:
        """Wait for its end."""
        await self._process.wait()

    def allow_end(self) -> None:
        """From now on it may end without `check` taking that for a failure."""
        self._end_expected = True

    async def check(self) -> None:
        """Raise, once, if it ended unasked while its VM ran.

        :raise SystemFailure: with what it said last.
        """
        code = self._process.returncode
        if code is None or self._end_expected:
            return
        if self._machine is not None:
            # A VM's end is its end too, and may be known a moment later.
            await asyncio.wait({self._machine.died}, timeout=SETTLE_SECONDS)
            if self._machine.died.done():
                return
        self._end_expected = True
        raise SystemFailure(
            f"{self._name} (process {self.pid}) ended by itself with {code}",
            detail=self._last_words(),
            hint=f"its command line and words are in {self._log.name}",
        )

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-_QUOTED:].strip()
