"""Values that many keys of a scenario file take: sizes, counts, names, and what differs per link."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from harness.agent.errnos import NAMES
from harness.model.shape import Limits
from harness.model.size import MAX_GIB, PATTERN, guess_size

MAX_CLIENTS = 1000
"""Clients of one group; the agent's listen backlog refuses what exceeds it."""


class Where(StrEnum):
    """Keys of a value that differs per link: links' names, and `default` for those not named."""

    DEFAULT = "default"
    VSOCK = "vsock"
    VIRTIO_SERIAL = "virtio-serial"
    VIRTCONSOLE = "virtconsole"
    ISA_SERIAL = "isa-serial"
    SERIAL_PROXY = "serial-proxy"
    HYBRID_VSOCK = "hybrid-vsock"


Line: TypeAlias = Annotated[str, Limits(pattern=r"^\S[^\n]*$", wanted="one line of text")]
SizeText: TypeAlias = Annotated[
    str,
    Limits(
        pattern=PATTERN,
        wanted=f"a size such as 64KiB, 1MiB, 2GiB (at most {MAX_GIB}GiB)",
        guess=guess_size,
    ),
]
SizeNumber: TypeAlias = Annotated[int, Limits(low=1, help="bytes")]
SizeValue: TypeAlias = Annotated[SizeNumber | SizeText, Limits(name="SizeValue")]
Size: TypeAlias = Annotated[
    SizeNumber | SizeText | dict[Where, SizeValue],
    Limits(name="Size", help="bytes, or such as 64KiB, 1MiB, 2GiB, or one of these per link"),
]
TimesNumber: TypeAlias = Annotated[int, Limits(low=1, high=1_000_000)]
Times: TypeAlias = Annotated[TimesNumber | dict[Where, TimesNumber], Limits(name="Times")]
RunningNumber: TypeAlias = Annotated[int, Limits(low=0, high=MAX_CLIENTS)]
Running: TypeAlias = RunningNumber | dict[Where, RunningNumber]
Clients: TypeAlias = Annotated[int, Limits(low=1, high=MAX_CLIENTS)]
Name: TypeAlias = Annotated[
    str,
    Limits(pattern="^[a-z][a-z0-9-]{0,31}$", wanted="a name: small letters, digits and -, at most 32"),
]
ERRNOS = tuple(NAMES.values())
"""The errnos of this system by name. A misspelt one would be an expectation that nothing ever meets."""

Errno: TypeAlias = Annotated[str, Limits(words=ERRNOS, wanted="an errno's name such as EPIPE", name="Errno")]
Signal: TypeAlias = Annotated[str, Limits(pattern="^SIG[A-Z0-9]+$", wanted="a signal's name such as SIGTERM")]
Argv: TypeAlias = Annotated[
    tuple[str, ...], Limits(least=1, help="a program, looked up in the guest's PATH, and its arguments")
]
