"""Scenario files as pytest collectors, one item per link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.scenario import SUFFIXES, Scenario
from harness.plugin import known, options
from harness.plugin.item import ScenarioItem
from harness.plugin.order import longest_first

KEYS = ("claim", "clients", "expect", "links", "workload")
_OURS = re.compile(rf"^({'|'.join(KEYS)}):".encode(), re.MULTILINE)

LEFT_OUT = "vsock_left_out"
"""What a worker tells at its end of the tests that it left out: their ids."""

CLAIMED = "vsock_claimed"
"""What a worker tells at its end of the tests that are no scenario's and bear a claim: by id, `claimed`."""

_ENOUGH = 2
"""Of our keys, for a file to be ours that is in no folder `scenarios`: others' YAML may have one of them."""


def is_scenario(path: Path, config: pytest.Config, explicit: bool = False) -> bool:
    """Whether a file is one: YAML that is named, or has some of `KEYS` as top-level keys.

    One is enough in a folder `scenarios` of the project, two are in a folder that the command line names.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    if explicit:
        return True
    root = config.rootpath
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    needed = 1 if "scenarios" in parts else _ENOUGH if _is_below_named(path, config) else 0
    return 0 < needed <= len(set(_OURS.findall(path.read_bytes())))


def _is_named(path: Path, config: pytest.Config) -> bool:
    return path.resolve() in _named(config)


def _is_below_named(path: Path, config: pytest.Config) -> bool:
    """Whether it is in a folder that the user named; not if that is pytest's choice where none was."""
    by_user = config.args_source is pytest.Config.ArgsSource.ARGS
    return by_user and any(path.resolve().is_relative_to(place) for place in _named(config))


def _named(config: pytest.Config) -> list[Path]:
    """What the arguments name, be it there or not."""
    return [path.resolve() for path in _places(config)]


def scenario_files(config: pytest.Config) -> list[Path]:
    """The scenario files that the arguments lead to, sorted."""
    found: set[Path] = set()
    for path in _places(config):
        if path.is_dir():
            found |= {file for file in _yaml_below(path) if is_scenario(file, config)}
        elif is_scenario(path, config, explicit=True):
            found.add(path)
    return sorted(found)


def other_yaml(config: pytest.Config) -> list[Path]:
    """YAML in the folders that the arguments name which is taken for no scenario, sorted."""
    folders = [path for path in _places(config) if path.is_dir()]
    return sorted(
        {file for folder in folders for file in _yaml_below(folder)}.difference(scenario_files(config))
    )


def _places(config: pytest.Config) -> list[Path]:
    return [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]


def _yaml_below(folder: Path) -> Iterator[Path]:
    """YAML files, but for those in folders that pytest does not enter either (hidden ones, node_modules)."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        yield from (Path(place, name) for name in files if name.endswith(SUFFIXES))


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that items bear."""
    config.addinivalue_line(
        "markers", "claim(id, link=None): the claim that a scenario or test shows, and on which link"
    )
    config.addinivalue_line("markers", "long: takes long; -m 'not long' leaves it out, as `make e2e` does")
    config.addinivalue_line("markers", "vm: boots real VMs; run it where they run, with --host")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take scenario files."""
    if is_scenario(file_path, parent.config, _is_named(file_path, parent.config)):
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the links that `--link` does not name; have tests that bear a claim say so in their reports.

    What takes long goes first, so that no host still works at it when the others have nothing left.

    :raise UsageError: a test's claim or link is none.
    """
    wanted = options.links(config)
    _tell(items)
    for item in items:
        if not isinstance(item, ScenarioItem):
            item.user_properties += _claimed(item)
    longest_first(items)
    if wanted is None:
        return
    allowed = [None, *wanted]
    out = [item for item in items if _link(item) not in allowed]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """On a worker, remember what was left out: the process that the user started collects nothing itself."""
    _tell(items)
    for item in items:
        output = getattr(item.config, "workeroutput", None)
        if output is not None:
            output.setdefault(LEFT_OUT, []).append(item.nodeid)


def claimed(item: pytest.Item) -> tuple[str, str | None] | None:
    """The claim that a test bears which is no scenario's, and its link if there is one; None of any other.

    :raise UsageError: a claim or link is none.
    """
    said = {} if isinstance(item, ScenarioItem) else {name: str(value) for name, value in _claimed(item)}
    return (said["claim"], said.get("link")) if said else None


def _tell(items: Sequence[pytest.Item]) -> None:
    for item in items:
        output = getattr(item.config, "workeroutput", None)
        if output is not None and (told := claimed(item)):
            output.setdefault(CLAIMED, {})[item.nodeid] = told


def _claimed(item: pytest.Item) -> list[tuple[str, object]]:
    """The properties of a test that bears a claim: its id, the link if there is one, what the test is."""
    marker = item.get_closest_marker("claim")
    if marker is None:
        return []
    try:
        said: dict[str, object] = {"claim": Claim(*marker.args).value}
        said |= {name: Link(value).value for name, value in marker.kwargs.items() if value is not None}
    except (TypeError, ValueError) as error:
        known = f"claims: {', '.join(Claim)}; links: {', '.join(Link)}"
        raise pytest.UsageError(f"{item.nodeid}: marker claim: {error}; {known}") from None
    doc = str(getattr(getattr(item, "obj", None), "__doc__", None) or "").strip()
    return [*said.items(), ("title", doc.split("\n")[0])]


def _link(item: pytest.Item) -> str | None:
    """The one link that an item is about, if it is."""
    return next((str(value) for name, value in item.user_properties if name == "link"), None)


class ScenarioFile(pytest.File):
    """One scenario file."""

    def collect(self) -> Iterator[ScenarioItem]:
        """One item per link."""
        try:
            scenario: Scenario = known.scenario(self.path)
        except UsageError as error:
            raise self.CollectError(str(error)) from None
        boot = options.boot(self.config)
        for link in scenario.links:
            plan = scenario.for_link(link)
            plan = msgspec.structs.replace(plan, boot=boot or plan.boot)
            item: ScenarioItem = ScenarioItem.from_parent(self, name=link.value, plan=plan)
            item.add_marker(pytest.mark.claim(scenario.claim.value))
            if link in scenario.long:
                item.add_marker(pytest.mark.long)
            yield item
