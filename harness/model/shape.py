"""Type hints of written data as a tree of shapes, which both the checker and the JSON Schema walk."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

from msgspec import NODEFAULT, Struct, UnsetType
from msgspec.structs import fields


class Written(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A mapping with fixed keys. Messages call a key `noun`; with `one_key` there is exactly one."""

    noun: ClassVar[str] = "key"
    one_key: ClassVar[bool] = False


class Limits(NamedTuple):
    """Put into `Annotated`: what a type alone does not say.

    `low`, `high`: of a number, both included. `pattern`: a regular expression that text must match; `wanted`
    says in words what it asks for. `least`: how many items a list must have. `help`: for the reader.
    `name`: under which the schema defines the shape once, for all its uses. `guess`: what text that does not
    match `pattern` was perhaps meant to be; itself if it has no idea. `words`: the only texts there are, if
    they are too many for a message, where `wanted` stands for them.
    """

    low: int | None = None
    high: int | None = None
    pattern: str = ""
    wanted: str = ""
    least: int = 0
    help: str = ""
    name: str = ""
    guess: Callable[[str], str] = str
    words: tuple[str, ...] = ()


class Text(NamedTuple):
    """A string."""

    limits: Limits


class Number(NamedTuple):
    """An integer."""

    limits: Limits


class Real(NamedTuple):
    """A number that need not be whole."""

    limits: Limits


class Flag(NamedTuple):
    """true or false."""

    limits: Limits


class Choice(NamedTuple):
    """One word of an enumeration; `noun` is what an error message calls it."""

    words: type[StrEnum]
    limits: Limits

    @property
    def allowed(self) -> tuple[str, ...]:
        """The words in the order of their definition."""
        return tuple(self.words)

    @property
    def noun(self) -> str:
        """Such as "link"."""
        name = self.words.__name__
        return {
            "Moment": "event",
            "Where": "link",
            "FactName": "fact",
            "SocketType": "type",
            "FaultKind": "fault",
            "While": "activity",
            "ProgramName": "program",
        }.get(name, name.lower())


class Items(NamedTuple):
    """A list."""

    item: Shape
    limits: Limits


class Table(NamedTuple):
    """A mapping whose keys are not fixed."""

    key: Text | Choice
    value: Shape
    limits: Limits


class Record(NamedTuple):
    """A mapping with fixed keys."""

    struct: type[Written]
    limits: Limits


class Either(NamedTuple):
    """One of several shapes that differ in kind."""

    options: tuple[Shape, ...]
    limits: Limits


class Anything(NamedTuple):
    """Checked elsewhere."""

    limits: Limits


Shape: TypeAlias = Text | Number | Real | Flag | Choice | Items | Table | Record | Either | Anything


class Entry(NamedTuple):
    """A key of a `Record`. `default` is None for required keys and for those without one."""

    shape: Shape
    required: bool
    default: object


@cache
def entries(struct: type[Written]) -> dict[str, Entry]:
    """The keys of `struct` as they are written, in the order of their definition."""
    hints = typing.get_type_hints(struct, include_extras=True)
    found = {}
    for field in fields(struct):
        given = field.default not in (NODEFAULT,) and not isinstance(field.default, UnsetType)
        found[field.encode_name] = Entry(
            shape_of(hints[field.name]), field.required, field.default if given else None
        )
    return found


def shape_of(hint: Any, limits: Limits | None = None) -> Shape:
    """The shape of one type hint.

    :raise TypeError: for a hint that written data does not use.
    """
    limits = limits or Limits()
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return shape_of(args[0], next((a for a in args[1:] if isinstance(a, Limits)), limits))
    if origin in (typing.Union, types.UnionType):
        return _union([arg for arg in args if arg is not UnsetType], limits)
    if origin is tuple:
        return Items(shape_of(args[0]), limits)
    if origin is dict:
        key = shape_of(args[0])
        assert isinstance(key, Text | Choice)
        return Table(key, shape_of(args[1]), limits)
    return _plain(hint, limits)


def _union(args: list[Any], limits: Limits) -> Shape:
    if len(args) > 1:
        return Either(tuple(shape_of(arg) for arg in args), limits)
    only = shape_of(args[0])
    return only if limits == Limits() else shape_of(args[0], limits)


def _plain(hint: Any, limits: Limits) -> Shape:
    if hint is Any:
        return Anything(limits)
    if hint is bool:
        return Flag(limits)
    if hint is int:
        return Number(limits)
    if hint is float:
        return Real(limits)
    if hint is str:
        return Text(limits)
    if issubclass(hint, StrEnum):
        return Choice(hint, limits)
    if issubclass(hint, Written):
        return Record(hint, limits)
    raise TypeError(f"written data has no {hint!r}")
