"""Holds nodes against shapes: one problem for each mistake, at the very key or value."""

from __future__ import annotations

import re

from harness.model.document import Node, Problems, nearest
from harness.model.shape import (
    Anything,
    Choice,
    Either,
    Flag,
    Items,
    Number,
    Real,
    Record,
    Shape,
    Table,
    Text,
    Written,
    entries,
)


def check(node: Node, shape: Shape, problems: Problems, name: str) -> None:
    """Note in `problems` whatever of `node` is not of `shape`; `name` is what messages call it.

    Where nothing was noted, `msgspec.convert` of the plain value to the shape's type succeeds.
    """
    match shape:
        case Anything():
            return
        case Either():
            _either(node, shape, problems, name)
        case Record():
            _record(node, shape.struct, problems, name)
        case Table():
            _table(node, shape, problems, name)
        case Items():
            _items(node, shape, problems, name)
        case Choice():
            _choice(node, shape, problems, name)
        case _:
            _scalar(node, shape, problems, name)


def _either(node: Node, shape: Either, problems: Problems, name: str) -> None:
    fitting = [option for option in shape.options if _same_kind(node, option)]
    if fitting:
        check(node, fitting[0], problems, name)
    else:
        kinds = " or ".join(dict.fromkeys(_wanted(option) for option in shape.options))
        problems.add(node.mark, f"{name} must be {kinds}, not {node.kind}")


def _record(node: Node, struct: type[Written], problems: Problems, name: str) -> None:
    known = entries(struct)
    if not isinstance(node.value, dict):
        write = "" if any(entry.required for entry in known.values()) else ": write {}"
        if struct.one_key and node.value in known:
            write = f": write {node.value}: {{}}"
        problems.add(node.mark, f"{name} must be a mapping, not {node.kind}{write}")
        return
    missing = [key for key, entry in known.items() if entry.required and key not in node.value]
    for key, value in node.value.items():
        if key in known:
            check(value, known[key].shape, problems, key)
        else:
            guess = problems.unknown(node.keys[key], struct.noun, key, known)
            missing = [other for other in missing if other != guess]
    for key in missing:
        problems.add(node.mark, f"{name} lacks the key {key!r}")
    if struct.one_key:
        _one_key(node, struct, problems, name)


def _one_key(node: Node, struct: type[Written], problems: Problems, name: str) -> None:
    if not node.keys:
        problems.add(node.mark, f"{name} must have exactly one key", entries(struct))
    for key, mark in list(node.keys.items())[1:]:
        first = next(iter(node.keys))
        problems.add(mark, f"{key!r} is a second key beside {first!r}: a step has one, so begin with '- '")


def _table(node: Node, shape: Table, problems: Problems, name: str) -> None:
    if not isinstance(node.value, dict):
        problems.add(node.mark, f"{name} must be {_wanted(shape)}, not {node.kind}")
        return
    if not node.value:
        problems.add(node.mark, f"{name} is empty")
    for key, value in node.value.items():
        check(Node(node.keys[key], key), shape.key, problems, f"a key of {name}")
        check(value, shape.value, problems, f"{name} of {key}")


def _items(node: Node, shape: Items, problems: Problems, name: str) -> None:
    if not isinstance(node.value, list):
        write = f": write {_as_list(node.value)}" if isinstance(node.value, str) and node.value else ""
        problems.add(node.mark, f"{name} must be a list, not {node.kind}{write}")
        return
    if len(node.value) < shape.limits.least:
        problems.add(node.mark, f"{name} is empty")
    for item in node.value:
        check(item, shape.item, problems, f"an item of {name}")


def _as_list(text: str) -> str:
    """The list, in YAML, that is meant by words with spaces or commas between them, quoted as in a shell."""
    import shlex  # only on the way to an error

    splits = shlex.shlex(text, posix=True, punctuation_chars=False)
    splits.whitespace_split, splits.whitespace, splits.commenters = True, " ,\t\r\n", ""
    try:
        words = list(splits)
    except ValueError:  # a quote that is not closed
        words = [text]
    plain = re.compile(r"(?!true$|false$|null$)-{0,2}[A-Za-z./][\w./=+-]*", re.IGNORECASE)
    return f"[{', '.join(word if plain.fullmatch(word) else repr(word) for word in words)}]"


def _choice(node: Node, shape: Choice, problems: Problems, name: str) -> None:
    if not isinstance(node.value, str):
        problems.add(node.mark, f"{name} must be a word, not {node.kind}", shape.allowed)
    elif node.value not in shape.allowed:
        problems.unknown(node.mark, shape.noun, node.value, shape.allowed)


def _scalar(node: Node, shape: Text | Number | Real | Flag, problems: Problems, name: str) -> None:
    value, limits = node.value, shape.limits
    if not _same_kind(node, shape):
        quote = isinstance(shape, Text) and isinstance(value, bool | int | float)
        hint = ": put it in quotes" if quote else ""
        problems.add(node.mark, f"{name} must be {_wanted(shape)}, not {node.kind}{hint}")
    elif isinstance(value, str) and limits.pattern and not re.fullmatch(limits.pattern, value):
        meant = limits.guess(value)
        guess = meant if re.fullmatch(limits.pattern, meant) else ""
        problems.add(node.mark, f"{name} must be {limits.wanted}, not {node.kind}", guess=guess)
    elif isinstance(value, str) and limits.words and value not in limits.words:
        guess = nearest(value, limits.words)
        problems.add(node.mark, f"{name} must be {limits.wanted}, not {node.kind}", guess=guess)
    elif isinstance(value, int | float):
        if limits.low is not None and value < limits.low:
            problems.add(node.mark, f"{name} must be at least {limits.low}, not {value}")
        if limits.high is not None and value > limits.high:
            problems.add(node.mark, f"{name} must be at most {limits.high}, not {value}")


def _same_kind(node: Node, shape: Shape) -> bool:
    value = node.value
    match shape:
        case Record() | Table():
            return isinstance(value, dict)
        case Items():
            return isinstance(value, list)
        case Flag():
            return isinstance(value, bool)
        case Number():
            return isinstance(value, int) and not isinstance(value, bool)
        case Real():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Text() | Choice():
            return isinstance(value, str)
    return True


def _wanted(shape: Shape) -> str:
    match shape:
        case Table():
            return f"a mapping by {shape.key.noun}" if isinstance(shape.key, Choice) else "a mapping by name"
        case Record():
            return "a mapping"
        case Items():
            return "a list"
        case Flag():
            return "true or false"
        case Number():
            return "an integer"
        case Real():
            return "a number"
        case Choice():
            return f"one of {', '.join(shape.allowed)}"
        case Text():
            return shape.limits.wanted or "text"
    return "anything"
