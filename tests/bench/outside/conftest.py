"""Options, and the fixture `figures`, of what is measured from the user's process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.inside.figures import Figures


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    group.addoption("--rounds", type=int, default=3, help="how often what is compared is measured")
    group.addoption("--bench-host", default="lab", help="where the runs that are measured have their VMs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`round`: an item for each that is asked for."""
    if "round" in metafunc.fixturenames:
        metafunc.parametrize("round", range(1, metafunc.config.getoption("rounds", 3) + 1))


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """The item's own, in the folder that `--results` names."""
    name = re.sub(r"[^\w.-]+", "-", request.node.name)
    made = Path(request.config.getoption("vsock_results"), "outside", name).absolute()
    made.mkdir(parents=True)
    return made


@pytest.fixture
def figures(folder: Path) -> Figures:
    """Where an item puts what it measures."""
    return Figures(folder)
