"""How long work tells how far it is; who shows it, and where, is decided at the top."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Receives the stages of one long piece of work."""

    def stage(self, what: str) -> AbstractContextManager[object]:
        """Enter a stage named by `what`; leaving it says how long it took."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, what: str) -> AbstractContextManager[object]:
        """Enter a stage that nobody watches."""
        return nullcontext()
