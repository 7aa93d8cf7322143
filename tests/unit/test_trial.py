"""Which choices of tests are tried before a host is made ready. That nothing is left: test_plugin.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin import trial
from harness.plugin.asked import Asked


@pytest.mark.parametrize(
    ("given", "args", "sure", "tried"),
    [
        ({}, ["scenarios"], True, False),
        ({}, ["scenarios"], False, True),
        ({"markexpr": "not long"}, ["scenarios"], True, False),
        ({"markexpr": "long"}, ["scenarios"], False, True),
        ({"vsock_links": ["vsock"]}, ["scenarios"], True, False),
        ({"vsock_links": ["isa-serial"]}, ["scenarios"], False, True),
        ({"keyword": "many"}, ["scenarios"], True, True),
        ({"deselect": ["scenarios/1.yaml"]}, ["scenarios"], True, True),
        ({}, ["scenarios/1.yaml::vsock"], True, True),
    ],
)
def test_a_choice_that_may_leave_nothing_is_tried(
    given: dict[str, Any], args: list[str], sure: bool, tried: bool
) -> None:
    option = {"keyword": "", "markexpr": "", "vsock_links": None, "deselect": None, **given}
    config: Any = SimpleNamespace(option=SimpleNamespace(**option), args=args)
    assert trial.wanted(config, Asked(1, frozenset(), sure=sure)) is tried
