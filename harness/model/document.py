"""A parsed file in which each key and value knows its place, and the problems found in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec

from harness.model.errors import UsageError

Scalar: TypeAlias = str | int | float | bool | None
Place: TypeAlias = str | int


class Mark(msgspec.Struct, frozen=True, order=True):
    """A place in a file; line and column count from 1, columns in characters."""

    line: int
    column: int


class Node(msgspec.Struct, frozen=True):
    """A value and where it starts; for a mapping `keys` has each key's own place."""

    mark: Mark
    value: Scalar | list[Node] | dict[str, Node]
    keys: dict[str, Mark] = {}

    def plain(self) -> object:
        """The value without places: scalars, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, *path: Place) -> Node:
        """The node reached by `path` of keys and indices.

        :raise LookupError: if there is none.
        """
        node = self
        for place in path:
            match node.value, place:
                case dict() as table, str():
                    node = table[place]
                case list() as items, int():
                    node = items[place]
                case _:
                    raise LookupError(f"no {place!r} in {node.kind}")
        return node

    def key_mark(self, *path: Place) -> Mark:
        """Where the key that `path` ends in stands (the item itself if it ends in an index)."""
        parent, last = self.at(*path[:-1]), path[-1]
        return parent.keys[last] if isinstance(last, str) else self.at(*path).mark

    @property
    def kind(self) -> str:
        """What the value is, in the words of an error message."""
        match self.value:
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case None:
                return "empty"
            case bool():
                return f"{str(self.value).lower()}"
            case int() | float():
                return f"the number {self.value}"
            case text:
                return repr(text)


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a file: where, what, what is allowed there, and what was perhaps meant."""

    mark: Mark
    what: str
    allowed: tuple[str, ...] = ()
    guess: str = ""

    def __str__(self) -> str:
        parts = [self.what]
        if self.allowed:
            parts.append("allowed: " + ", ".join(self.allowed))
        if self.guess:
            parts.append(f"did you mean {self.guess!r}?")
        return "; ".join(parts)


class Problems:
    """Collects what is wrong with one file."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, mark: Mark, what: str, allowed: Iterable[str] = (), *, guess: str = "") -> None:
        """Note a problem; `allowed` and `guess` as in `Problem`."""
        self._found.append(Problem(mark, what, tuple(str(choice) for choice in allowed), guess))

    def unknown(self, mark: Mark, noun: str, word: str, allowed: Iterable[str]) -> str:
        """Note that `word` is none of `allowed`. The nearest of them, or an empty string, is returned."""
        choices = tuple(str(choice) for choice in allowed)
        guess = nearest(word, choices)
        self._found.append(Problem(mark, f"unknown {noun} {word!r}", choices, guess))
        return guess

    def __len__(self) -> int:
        return len(self._found)

    def check(self, path: Path) -> None:
        """Raise if anything was noted.

        :raise UsageError: `summary` is the first problem in file order, as ``FILE:LINE:COLUMN: what``;
            `detail` has one such line for each of the others.
        """
        if not self._found:
            return
        found = sorted(dict.fromkeys(self._found), key=lambda problem: problem.mark)
        lines = [f"{path}:{problem.mark.line}:{problem.mark.column}: {problem}" for problem in found]
        raise UsageError(lines[0], detail="\n".join(lines[1:]))


def nearest(word: str, choices: Iterable[str]) -> str:
    """The one of `choices` that `word` was perhaps meant to be, or an empty string."""
    if not word:
        return ""
    import difflib  # only on the way to an error

    known = {choice.lower(): choice for choice in choices}
    folded = word.strip().lower()
    if (spelt := folded.replace("_", "-")) in known:
        return known[spelt]
    match = difflib.get_close_matches(folded, known, n=1, cutoff=0.6)
    return known[match[0]] if match else ""
