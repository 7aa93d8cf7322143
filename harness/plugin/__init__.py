"""The pytest plugin: scenario files as items, hosts as xdist workers, claims as a table.

Loaded by its entry point; on workers, which have no entry point of ours, by PYTEST_PLUGINS. What only the
process that the user started needs is imported there alone: on an emulated host each import costs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from harness.plugin import known
from harness.plugin.bench import Bench
from harness.plugin.collect import (
    pytest_collect_file,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_deselected,
)
from harness.plugin.evidence import Packing
from harness.plugin.fixtures import pods
from harness.plugin.item import pytest_runtest_makereport
from harness.plugin.options import pytest_addoption

__all__ = [
    "pods",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collect_file",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_deselected",
    "pytest_runtest_makereport",
]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """On the process that the user started, bring hosts up around the run."""
    if hasattr(config, "workerinput"):
        known.learn(config.workerinput.get("vsock_harness_scenarios", "{}"))
        if Bench.of(config).is_remote:
            config.pluginmanager.register(Packing(), "vsock-harness-evidence")
        return (yield)
    from harness.plugin import controller, trial

    config.pluginmanager.register(controller, trial.CONTROLLER)
    with controller.around(config):
        return (yield)
