"""Reads a YAML 1.2 file into nodes that know their place. The only user of ruamel.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from harness.model.document import Mark, Node, Problems, Scalar
from harness.model.errors import UsageError

MAX_BYTES = 1 << 20
"""No file of ours is larger; what is, is something else."""

_SHOWN = 40
"""Characters of a number that is none which are shown."""

_MOST_BITS = 1024
"""Of a number: far beyond any limit, but Python still writes it out in an error."""

_CORE = "tag:yaml.org,2002:"
_CONSTANTS: dict[str, Scalar] = {"null": None, "true": True, "false": False}
_ADVICE = {
    "mapping values are not allowed": ": text that has ': ' in it must be in quotes",
    "'\\t' that cannot start any token": ": indent with spaces, not with tabs",
    "that cannot start any token": ": text that begins with it must be in quotes",
}
"""What is mostly wrong, by words of the parser's."""

_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


def read(path: Path) -> Node:
    """Parse the one document of `path`.

    YAML 1.2 core: ``on``, ``off``, ``yes`` and ``no`` are text, and so are dates. Anchors, aliases and tags
    are refused: a file is data that reads the same wherever you look.

    :raise UsageError: the file cannot be read, is not UTF-8, or is not one YAML document; the summary
        starts with ``FILE:LINE:COLUMN:`` where there is such a place, else with ``FILE:``.
    """
    text = _text(path)
    problems = Problems()
    root: Node | None = None
    try:
        tree = YAML(typ="safe", pure=True).compose(text)
        if tree is None:
            problems.add(Mark(1, 1), "the file is empty")
        else:
            root = _node(tree, problems)
    except MarkedYAMLError as error:
        _syntax(error, problems)
    except ReaderError as error:
        before = text[: error.position]
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        problems.add(mark, f"character {_code_point(error)} is not allowed in YAML")
    except YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply") from error
    problems.check(path)
    assert root is not None
    return root


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: not a regular file", hint="name a scenario file: one YAML document")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path}: {size} bytes; a scenario file has at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise UsageError(f"{path}:{line}:{column}: byte 0x{data[error.start]:02x} is not UTF-8") from error


def _node(node: Any, problems: Problems) -> Node:
    mark = _mark(node.start_mark)
    if node.anchor:
        problems.add(mark, f"anchors and aliases (&{node.anchor}) are not used here; write it out")
        return Node(mark, None)
    if isinstance(node, MappingNode):
        return _mapping(node, mark, problems)
    if isinstance(node, SequenceNode):
        return Node(mark, [_node(item, problems) for item in node.value])
    return Node(mark, _scalar(node, mark, problems))


def _mapping(node: Any, mark: Mark, problems: Problems) -> Node:
    values: dict[str, Node] = {}
    keys: dict[str, Mark] = {}
    for key, item in node.value:
        where = _mark(key.start_mark)
        if not isinstance(key, ScalarNode) or key.anchor or not key.value:
            problems.add(where, "a key must be a word")
            continue
        value = _node(item, problems)
        name = str(key.value)
        if name in keys:
            problems.add(where, f"key {name!r} stands here a second time; first in line {keys[name].line}")
            continue
        keys[name] = where
        values[name] = Node(where, None) if value.value is None else value
    return Node(mark, values, keys)


def _scalar(node: Any, mark: Mark, problems: Problems) -> Scalar:
    tag, text = str(node.tag), str(node.value)
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        problems.add(mark, "text with a NUL or half a surrogate pair cannot be passed on")
        return None
    if tag in (_CORE + "int", _CORE + "float"):
        try:
            return _number(tag, text.replace("_", ""))
        except ValueError:
            more = f"… ({len(text)} characters)" if len(text) > _SHOWN else ""
            problems.add(mark, f"{text[:_SHOWN]!r}{more} is not a number")
            return None
    if tag == _CORE + "bool":
        return _CONSTANTS.get(text.lower(), text)
    if tag == _CORE + "null":
        return None
    if tag not in (_CORE + "str", _CORE + "timestamp", _CORE + "value", _CORE + "merge"):
        problems.add(mark, f"tags ({tag.replace(_CORE, '!!')}) are not used here")
    return text


def _number(tag: str, text: str) -> int | float:
    if tag == _CORE + "float":
        return float(_SPECIAL.get(text.lower(), text))
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    bases = {"0x": 16, "0o": 8, "0b": 2}
    base = bases.get(digits[:2].lower(), 10)
    number = int(digits if base == 10 else digits[2:], base)
    if number.bit_length() > _MOST_BITS:
        raise ValueError("too long")
    return sign * number


def _syntax(error: MarkedYAMLError, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    advice = next((advice for words, advice in _ADVICE.items() if words in what), "")
    problems.add(_mark(mark) if mark else Mark(1, 1), f"not YAML: {what}{advice}")


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _code_point(error: ReaderError) -> str:
    character = error.character
    return f"U+{ord(character):04X}" if isinstance(character, str) else f"U+{character:04X}"
