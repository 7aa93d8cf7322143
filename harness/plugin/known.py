"""Scenario files that have been read: once on the process that the user started, and its workers are told.

Reading one takes a lab's emulated CPU a fifth of a second, most of it for the YAML; all of them took six
seconds of each lab's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from harness.host.paths import from_here
from harness.model.errors import UsageError
from harness.model.scenario import Scenario, load

_read: dict[str, Scenario] = {}


def scenario(path: Path) -> Scenario:
    """The scenario in the file at `path`, which is read if nobody has read one of this name and content.

    :raise UsageError: as `harness.model.scenario.load`.
    """
    path = from_here(path)  # as mistakes are told
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(path)!a}: the name is not UTF-8", hint="rename the file") from error
    try:
        key = hashlib.sha256(f"{path.stem}\0".encode() + path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if key not in _read:
        _read[key] = load(path)
    return _read[key]


def told() -> str:
    """All that was read so far, for `learn` elsewhere."""
    return msgspec.json.encode(_read).decode()


def learn(words: str) -> None:
    """Take over what another process of the same code has read."""
    _read.update(msgspec.json.decode(words, type=dict[str, Scenario]))
