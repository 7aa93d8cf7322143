"""Which choices of tests are tried before a host is made ready. That nothing is left: test_plugin.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin import trial


@pytest.mark.parametrize(
    ("given", "args", "tried"),
    [
        ({}, ["scenarios"], False),
        ({"markexpr": "not long"}, ["scenarios"], False),
        ({"vsock_links": ["vsock"]}, ["scenarios"], False),
        ({"vsock_links": ["vsock"]}, ["scenarios/1.yaml"], True),
        ({"markexpr": "long"}, ["scenarios/1.yaml"], True),
        ({}, ["scenarios/1.yaml"], False),
        ({"keyword": "many"}, ["scenarios"], True),
        ({"deselect": ["scenarios/1.yaml"]}, ["scenarios"], True),
        ({}, ["scenarios/1.yaml::vsock"], True),
    ],
)
def test_a_choice_by_names_or_among_few_files_is_tried(
    given: dict[str, Any], args: list[str], tried: bool, tmp_path: Path
) -> None:
    (tmp_path / "scenarios").mkdir()
    for number in range(trial.FEW + 1):
        (tmp_path / f"scenarios/{number}.yaml").write_text("claim: reliability\n")
    option = {"keyword": "", "markexpr": "", "vsock_links": None, "deselect": None, **given}
    config: Any = SimpleNamespace(
        option=SimpleNamespace(**option),
        args=args,
        rootpath=tmp_path,
        invocation_params=SimpleNamespace(dir=tmp_path),
    )
    assert trial.wanted(config) is tried
