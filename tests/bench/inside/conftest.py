"""Options of the benchmark, which reach workers on other hosts, and the fixture `figures`."""

from __future__ import annotations

from typing import Any

import pytest

from harness.host.speed import slowness
from harness.plugin.fixtures import Pods

from .figures import Figures

_OPTIONS = {
    "rounds": (5, "how often what is compared is measured, alternately"),
    "lifecycles": (20, "how many pods to clone, use and end one after the other"),
    "soak_items": (2, "how many minutes of soaking, of all hosts together"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    for name, (default, text) in _OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", type=int, default=default, help=text)


def pytest_configure(config: pytest.Config) -> None:
    for name in ("vm", "lifecycles", "soak"):  # the ini file that has them stays at home
        config.addinivalue_line("markers", f"{name}: see tests/bench/inside/conftest.py")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker (a hook of pytest-xdist): elsewhere it does not get the command line as it was typed."""
    node.workerinput["bench"] = {name: node.config.getoption(name) for name in _OPTIONS}


def _asked(config: pytest.Config) -> dict[str, int]:
    told: dict[str, int] | None = getattr(config, "workerinput", {}).get("bench")
    return told or {name: config.getoption(name) for name in _OPTIONS}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`round`, `ten`, `minute`: an item for each that the options ask for; their lines are the progress."""
    asked = _asked(metafunc.config)
    counts = {"round": asked["rounds"], "ten": -(-asked["lifecycles"] // 10), "minute": asked["soak_items"]}
    for name, count in counts.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, range(1, count + 1))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a test is to measure what it compares with nothing."""
    return int(_asked(request.config)["rounds"])


@pytest.fixture
def figures(pods: Pods) -> Figures:
    """Where an item puts what it measures: beside the evidence of its pods; first, how slow its host is."""
    made = Figures(pods.folder)
    made.add("slowness of the host", "", slowness(), "×")
    return made
