"""What a scenario file says is expected, as it is written; see `harness.model.written`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import UNSET, UnsetType

from harness.model.factwords import FactName
from harness.model.shape import Limits, Written


class Range(Written, frozen=True, kw_only=True):
    """From `min` (0) to `max` (no limit) clients, both included."""

    min: Annotated[int, Limits(low=0)] | UnsetType = UNSET
    max: Annotated[int, Limits(low=0)] | UnsetType = UNSET


Count: TypeAlias = Annotated[
    Annotated[int, Limits(low=0)] | Range, Limits(name="Count", help="a number, or its least and most")
]


class Slowdown(Written, frozen=True, kw_only=True):
    """How many times slower than another group, `min` to `max`: by median round trip, or else by bytes."""

    against: Annotated[str, Limits(help="the group that did the like without the load")]
    min: Annotated[int, Limits(low=1)] | UnsetType = UNSET
    max: Annotated[int, Limits(low=1)] | UnsetType = UNSET
    worst: Annotated[int, Limits(low=1, help="at most, of the group's slowest client")] | UnsetType = UNSET


class Noticed(Written, frozen=True, kw_only=True):
    """Seconds of a plain machine, at most, from the fault until an end noticed or containers were gone."""

    host: Annotated[float, Limits(low=0, help="the client's own end")] | UnsetType = UNSET
    guest: Annotated[float, Limits(low=0, help="the agent's end of the connection")] | UnsetType = UNSET
    containers: (
        Annotated[float, Limits(low=0, help="the agent has reaped the client's last container")] | UnsetType
    ) = UNSET


Version: TypeAlias = Annotated[
    str, Limits(pattern=r"^\d+\.\d+$", wanted='a kernel\'s version in quotes, such as "6.12"')
]
OneOf: TypeAlias = str | Annotated[tuple[str, ...], Limits(least=1)]


class Later(Written, frozen=True, kw_only=True):
    """Of `ByKernel`: later kernels differ once more."""

    linux: Version
    before: OneOf
    since: OneOf


class ByKernel(Written, frozen=True, kw_only=True):
    """Kernels differ: `before` and `since` a version of the host's, or the guest's; `since` perhaps again."""

    linux: Version | UnsetType = UNSET
    guest_linux: Version | UnsetType = UNSET
    before: OneOf
    since: OneOf | Later


FactValue: TypeAlias = Annotated[
    OneOf | ByKernel,
    Limits(name="FactValue", help="what must be reported, or a list of which it must be one"),
]
FactValues: TypeAlias = dict[FactName, FactValue]
