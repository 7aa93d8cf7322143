"""Scenario files as pytest collectors, one item per link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.errors import UsageError
from harness.model.scenario import Scenario, load
from harness.plugin import options
from harness.plugin.item import ScenarioItem


def is_scenario(path: Path, explicit: bool = False) -> bool:
    """Whether a file is one: *.yaml in a folder called scenarios, or given by name."""
    return path.suffix in (".yaml", ".yml") and (explicit or "scenarios" in path.parts)


def scenario_files(config: pytest.Config) -> list[Path]:
    """The scenario files that the arguments lead to, sorted."""
    found: set[Path] = set()
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.split("::")[0])
        if path.is_dir():
            found |= {file for file in path.rglob("*.y*ml") if is_scenario(file)}
        elif is_scenario(path, explicit=True) and path.is_file():
            found.add(path)
    return sorted(found)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that items bear."""
    config.addinivalue_line("markers", "claim(id): the claim that a scenario shows")
    config.addinivalue_line("markers", "vm: boots real VMs; run it where they run, with --host")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take scenario files."""
    explicit = any(Path(argument.split("::")[0]).name == file_path.name for argument in parent.config.args)
    if is_scenario(file_path, explicit):
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the links that `--link` does not name."""
    wanted = options.links(config)
    if wanted is None:
        return
    out = [item for item in items if isinstance(item, ScenarioItem) and item.plan.link not in wanted]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


class ScenarioFile(pytest.File):
    """One scenario file."""

    def collect(self) -> Iterator[ScenarioItem]:
        """One item per link."""
        try:
            scenario: Scenario = load(self.path)
        except UsageError as error:
            raise self.CollectError(str(error)) from None
        for link in scenario.links:
            item: ScenarioItem = ScenarioItem.from_parent(self, name=link.value, plan=scenario.for_link(link))
            item.add_marker(pytest.mark.claim(scenario.claim.value))
            yield item
