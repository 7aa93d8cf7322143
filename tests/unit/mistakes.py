"""Scenario files to make mistakes in, and the lines of the error they give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.model.errors import UsageError
from harness.model.scenario import load

FLAT = """\
title: T
claim: multiple-clients
links: [vsock, virtio-serial]
clients: 8
workload:
  - echo: {bytes: 1MiB}
expect:
  vsock: {served: 8}
  virtio-serial: {served: 1, waiting: 7}
"""

GROUPS = """\
title: T
claim: multiple-clients
links: [vsock]
clients:
  one: {workload: [{ping: {}}]}
  two:
    after: one
    count: 2
    workload:
      - start: {name: c, argv: [cat]}
      - finish: {name: c}
expect:
  vsock: {one: {served: 1}, two: {served: 2}}
"""


WORDS = "served, intact, waited, waiting, refused, garbled, stale, lost"
KEYS = f"{WORDS}, facts, noticed, slowdown"

Mistake = tuple[str, str, str]
"""What stands in a right file, what instead, and what the one error says."""


def each(rows: Sequence[Mistake]) -> pytest.MarkDecorator:
    """Gives a test one mistake after the other, as `mistake`."""
    return pytest.mark.parametrize("mistake", rows, ids=[new[:30] for _, new, _ in rows])


def says_only(tmp_path: Path, text: str, mistake: Mistake, **told: str) -> None:
    """Asserts that this mistake in a right file gives one error; `told` fills in what it says."""
    old, new, says = mistake
    assert old in text
    assert mistakes(tmp_path, text.replace(old, new, 1)) == [says.format(**told) if told else says]


def mistakes(tmp_path: Path, text: str | bytes) -> list[str]:
    """The lines of the error, without the file's name."""
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load(path)
    lines = [caught.value.summary, *caught.value.detail.splitlines()]
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]
