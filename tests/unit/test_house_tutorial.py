"""docs/tutorial.md is of a real run: its scenario, its trace and its verdict belong together."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.judge import judge
from harness.model.link import Link
from harness.model.scenario import load
from harness.model.trace import Event, What
from tests.unit.test_house_docs import ROOT, blocks, cells, part

PAGE = (ROOT / "docs/tutorial.md").read_text()


def test_its_verdict_is_that_of_its_trace(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "yaml")
    file = tmp_path / "hasty-shim.yaml"
    file.write_text(text)
    (trace,) = (block for block in blocks(PAGE, "") if block.startswith("{"))
    verdict = judge(load(file).for_link(Link.VIRTIO_SERIAL), msgspec.json.Decoder(Event).decode_lines(trace))
    assert f"FAIL hasty-shim on virtio-serial: {verdict.difference}\n" in PAGE


@pytest.mark.parametrize(
    ("first", "words"), [("at", Event.__struct_fields__), ("started", tuple(map(str, What)))]
)
def test_it_has_each_word_of_a_trace(first: str, words: tuple[str, ...]) -> None:
    told = [re.findall(r"`([^`]+)`", row[0]) for row in cells(part(PAGE, "3. Read the trace"))]
    names = [name for row in told for name in row]
    assert first in names
    assert set(words) <= set(names)
