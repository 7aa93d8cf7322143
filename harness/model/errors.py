"""Whose fault it is, in the type; what was done, seen and wanted, in the text.

::

    HarnessError
     +-- UsageError            the caller's input: exit code 4 in pytest, 2 in the commands
     +-- HostUnfit             this host lacks an ability: a skip with its reason, an error under --strict
     +-- InfrastructureError   our own tools: image build, lab, QEMU start
     |    +-- DeadlinePassed   something expected did not come in time
     +-- SystemFailure         the system under test misbehaved
          +-- GuestCrashed     the guest's kernel said so on its console

Of an item the last two are pytest's ERROR while its pod is made or ended, and FAIL in between.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Root of all errors the harness raises on purpose.

    `summary` is one line that names the place and what was wrong. `hint` says what to do next.
    `detail` is evidence (a log's end, a command line), shown below the summary.
    """

    def __init__(self, summary: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        parts = [self.summary]
        if self.detail:
            parts.append(self.detail.rstrip())
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class UsageError(HarnessError):
    """The caller's input is wrong: an option, a scenario file, a recipe."""


class HostUnfit(HarnessError):
    """The host lacks an ability. `ability` is its id as `vsock-harness doctor` prints it."""

    def __init__(self, summary: str, *, ability: str, hint: str = "", detail: str = "") -> None:
        super().__init__(summary, hint=hint, detail=detail)
        self.ability = ability


class InfrastructureError(HarnessError):
    """The harness or its emulator failed, not the system under test."""


class DeadlinePassed(InfrastructureError):
    """Something that should have come did not come in time; the text says what and how long."""


class SystemFailure(HarnessError):
    """The system under test misbehaved."""


class GuestCrashed(SystemFailure):
    """The guest's kernel printed an oops, a panic or a warning; `detail` quotes it."""
