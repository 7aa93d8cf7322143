"""Progress of long work: a line a stage, with how long it took; on a terminal the running one counts."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class Lines:
    """Writes stages to `out` (standard error by default); a terminal also sees the running one's seconds."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Show `what` while the `with` lasts, then how long it took, or that it failed."""
        begun = time.monotonic()
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(what, begun, ended), daemon=True)
        if self._live:
            ticker.start()
        else:
            print(f"{what} ...", file=self._out, flush=True)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            ended.set()
            if self._live:
                ticker.join()
            seconds = time.monotonic() - begun
            start = "\r\x1b[K" if self._live else ""
            print(f"{start}{what}: {outcome} in {seconds:.1f} s", file=self._out, flush=True)

    def _tick(self, what: str, begun: float, ended: threading.Event) -> None:
        while not ended.wait(0.5):
            print(f"\r\x1b[K{what} {time.monotonic() - begun:.0f} s", end="", file=self._out, flush=True)
