"""What a test module has, for who named a test that is not in it (``FILE::TEST[CASE]``)."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.host.paths import from_here

_SHOWN = 8
"""Tests of a module that are named at most."""


def words(arguments: Iterable[str], folder: Path) -> list[str]:
    """A line for each of `arguments`, below `folder`, that names a test which its module does not have."""
    found = (_missing(argument, folder) for argument in arguments if "::" in argument)
    return [line for line in found if line]


def _missing(argument: str, folder: Path) -> str:
    base, bracket, _ = argument.partition("[")
    file, *parts = base.split("::")
    path, name = Path(folder, file), "::".join(parts)
    if path.suffix != ".py" or not path.is_file():
        return ""
    try:
        names = list(_tests(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # pytest says what is wrong with it
        return ""
    shown = from_here(path.resolve())
    if name in names:
        return f"{shown}::{name} has no such case; its cases: --list {shown}::{name}" if bracket else ""
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    have = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{shown} has no {name!r}; it has {have or 'no test'}{guess}"


def _tests(module: ast.Module) -> Iterator[str]:
    """The names by which pytest collects, unless it was told others: test_…, Test…, Test…::test_…"""
    yield from _functions(module.body)
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield node.name
            yield from (f"{node.name}::{name}" for name in _functions(node.body))


def _functions(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name
