"""`programs` and what speaks to them, as they are written."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import UNSET, UnsetType

from harness.model import program
from harness.model.program import PORTS, ProgramName
from harness.model.shape import Limits, Written
from harness.model.values import Argv, Size, Where

Text: TypeAlias = Annotated[str, Limits(pattern=r"^[\s\S]{1,4096}$", wanted="text of 1 to 4096 characters")]


class Program(Written, frozen=True, kw_only=True):
    """A program in a root of its own, /programs in the guest. Write {} for one that others start."""

    run: Annotated[
        Argv | dict[Where, Argv] | UnsetType,
        Limits(help="what the agent starts before any client begins, and ends after the last; or per link"),
    ] = UNSET
    port: Annotated[
        Annotated[int, Limits(low=PORTS[0], high=PORTS[1])] | UnsetType,
        Limits(help="the vsock port on which it listens; clients begin once it does"),
    ] = UNSET


class UsedTool(Written, frozen=True, kw_only=True):
    """Which tool a client is, and to which of the scenario's programs it speaks."""

    name: program.Tool
    to: ProgramName


class Exchange(Written, frozen=True, kw_only=True):
    """Say something to the program, read as many bytes as are to be heard, compare. For socat, ssh."""

    say: Text
    hear: Text


class Copy(Written, frozen=True, kw_only=True):
    """Read that many bytes more of nbdkit's pattern disk, compare; then stand still. For nbdcopy."""

    bytes: Size
