"""Kata's configuration with places: which file and line set a key, and the edit that sets it otherwise.

`tomllib` gives values only. A line is found by trying: the text is parsed again with that line changed, and
the key must have changed with it. So neither strings, comments nor other tables are mistaken for it, and an
edit that is proposed has been tried.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Keys = tuple[str, ...]

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_NOWHERE = "[vsock-harness-nowhere]"
_TEMPLATE = re.compile(r"^(?P<key>[ \t]*[\w.]+[ \t]*=[ \t]*)@\w+@[ \t]*$", re.MULTILINE)


class BadToml(ValueError):
    """A file that is no TOML; the message is one line: file, line, column, what is wrong, the line itself."""


class Edit(NamedTuple):
    """A change of one line: `new` in its place, or behind it. `holds` is a word that the line has."""

    line: int
    new: str
    holds: str = ""

    def of(self, text: str) -> str:
        """The text with the change made."""
        lines = text.split("\n")
        lines[self.line - 1 : self.line] = [self.new] if self.holds else [lines[self.line - 1], self.new]
        return "\n".join(lines)

    def command(self, path: Path) -> str:
        """The change as a sed(1) command; it changes nothing if another line has moved there."""
        new = re.sub(r"([/&\\])", r"\\\1", self.new)
        script = f"{self.line}s/.*{self.holds}.*/{new}/" if self.holds else f"{self.line}a {self.new}"
        return f"sed -i {shlex.quote(script)} {shlex.quote(str(path))}"


@dataclass(frozen=True)
class Document:
    """One file, parsed. Of a template (``.toml.in``) each ``@NAME@`` counts as not set."""

    path: Path
    text: str
    data: dict[str, object]

    @classmethod
    def load(cls, path: Path) -> Document:
        """Read and parse a file.

        :raise BadToml: it is no TOML, or no UTF-8.
        :raise OSError: it can't be read.
        """
        raw = path.read_bytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise BadToml(
                f"{path}:{line}: byte {raw[error.start]:#04x} is not UTF-8, which TOML is"
            ) from None
        if path.suffix == ".in":
            text = _TEMPLATE.sub(r"\g<key>''", text.replace("@PROJECT_TYPE@", "kata"))
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise BadToml(_explained(path, text, str(error))) from None

    def get(self, *keys: str) -> object | None:
        """The value, None where it isn't set."""
        return _get(self.data, keys)

    def line(self, *keys: str) -> int:
        """The line that sets the key or begins the table; 0 where no single line does."""
        value = self.get(*keys)
        if value is None:
            return 0
        for number, line in self._lines(keys[-1]):
            header = line.lstrip().startswith("[")
            if header != (_header(line) == keys):
                continue
            changed = _parsed(_replaced(self.text, number, _NOWHERE if header else ""))
            if changed is not None and _get(changed, keys) != value:
                return number
        return 0

    def commented(self, *keys: str) -> int:
        """The line that would set the key if it were no comment, as in `#use_vsock = true`; 0 for none."""
        return next((edit.line for edit in self._uncommented(keys)), 0)

    def switched_on(self, *keys: str) -> Edit | None:
        """The edit that makes the key true: the line that sets it otherwise, a comment, or a new line."""
        name, line = keys[-1], self.line(*keys)
        if line:
            old = self.text.split("\n")[line - 1]
            value = rf"(\b{re.escape(name)}[\"']?\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}#]+)"
            edits = [Edit(line, re.sub(value, r"\1true", old, count=1), name)]
        else:
            edits = list(self._uncommented(keys))
            header = self.line(*keys[:-1])
            edits += [Edit(header, f"{name} = true")] if header else []
        return next((edit for edit in edits if self._makes_true(edit, keys)), None)

    def at(self, *keys: str) -> str:
        """``FILE:LINE`` of a key or table; ``FILE`` where no single line sets it."""
        line = self.line(*keys)
        return f"{self.path}:{line}" if line else str(self.path)

    def _uncommented(self, keys: Keys) -> Iterator[Edit]:
        comment = re.compile(rf"^\s*#+\s*{re.escape(keys[-1])}\s*=")
        for number, line in enumerate(self.text.split("\n"), 1):
            edit = Edit(number, f"{keys[-1]} = true", keys[-1])
            if comment.match(line) and self._makes_true(edit, keys):
                yield edit

    def _makes_true(self, edit: Edit, keys: Keys) -> bool:
        changed = _parsed(edit.of(self.text))
        return changed is not None and _get(changed, keys) is True

    def _lines(self, word: str) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self.text.split("\n"), 1):
            if word in line and not line.lstrip().startswith("#"):
                yield number, line


@dataclass(frozen=True)
class Configuration:
    """The main file, then what overrides it, in this order: the files of ``config.d`` by name."""

    documents: tuple[Document, ...]

    @property
    def main(self) -> Document:
        """The file that was asked for or found."""
        return self.documents[0]

    def setting(self, *keys: str) -> Document | None:
        """The file whose value of the key counts."""
        return next((one for one in reversed(self.documents) if one.get(*keys) is not None), None)

    def get(self, *keys: str) -> object | None:
        """The value that counts, None where it isn't set."""
        document = self.setting(*keys)
        return document.get(*keys) if document else None

    def names(self, table: str) -> list[str]:
        """The keys of a table of the top level, in the order of the files."""
        found: dict[str, None] = {}
        for document in self.documents:
            value = document.get(table)
            found.update(dict.fromkeys(value if isinstance(value, dict) else ()))
        return list(found)


def _get(data: dict[str, object], keys: Keys) -> object | None:
    value: object | None = data
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _parsed(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _header(line: str) -> Keys | None:
    """The keys of a line that begins a table."""
    value: object = _parsed(line) if line.lstrip().startswith("[") else None
    keys: list[str] = []
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys) if keys and value == {} else None


def _replaced(text: str, number: int, new: str) -> str:
    lines = text.split("\n")
    lines[number - 1] = new
    return "\n".join(lines)


def _explained(path: Path, text: str, message: str) -> str:
    place = _PLACE.search(message)
    lines = text.rstrip("\n").split("\n")
    number = int(place["line"]) if place and place["line"] else len(lines)
    column = int(place["column"]) if place and place["column"] else len(lines[-1]) + 1
    line = lines[number - 1].strip() if number <= len(lines) else ""
    what = _PLACE.sub("", message)
    bare = re.match(r"^\w+\s*=\s*(yes|no|on|off|True|False|TRUE|FALSE)\b", line)
    allowed = "; true and false are allowed" if bare else ""
    return f"{path}:{number}:{column}: {what}: {line}{allowed}"
