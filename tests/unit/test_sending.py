"""What goes to a host beside what the arguments name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from harness.cli.run import SHIPPED
from harness.plugin.sending import with_it, worker_options

FILES = (
    "test_alone.py",
    "test_kata.py",
    "other.py",
    "one.yaml",
    "two.yml",
    "scenario.schema.json",
    "kata/a.toml",
    "kata/deep/b.toml",
    "kata/.hidden",
    "kata/__pycache__/x.pyc",
    "other/c.toml",
    "more/three.yaml",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("one.yaml", ["one.yaml"]),
        ("test_alone.py", ["one.yaml", "test_alone.py", "two.yml"]),
        ("test_kata.py", ["kata/a.toml", "kata/deep/b.toml", "one.yaml", "test_kata.py", "two.yml"]),
        ("other.py", ["one.yaml", "other.py", "other/c.toml", "two.yml"]),
        ("kata", ["kata/a.toml", "kata/deep/b.toml"]),
    ],
)
def test_with_a_module_goes_what_it_may_read(folder: Path, name: str, files: list[str]) -> None:
    base, found = with_it(folder / name)
    assert sorted(str(base.relative_to(folder) / file) for file in found) == files


def test_of_a_folder_goes_all_but_what_is_hidden_or_compiled(folder: Path) -> None:
    base, found = with_it(folder)
    assert base == folder
    assert {str(file) for file in found} == set(FILES) - {"kata/.hidden", "kata/__pycache__/x.pyc"}


@pytest.mark.parametrize("module", sorted(SHIPPED.glob("test_*.py")), ids=lambda path: path.stem)
def test_our_modules_name_only_scenarios_that_go_with_them(module: Path) -> None:
    _, found = with_it(module)
    there = {str(file) for file in found}
    assert module.name in there
    assert {path.name for path in SHIPPED.glob("*.yaml")} < there


def test_workers_elsewhere_are_told_what_their_pods_shall_be(pytestconfig: pytest.Config) -> None:
    """Else they make the usual ones, and nobody notices."""
    option = copy.copy(pytestconfig.option)
    option.vsock_guest, option.vsock_proxy, option.vsock_links = "pod-forky", "p {listen} {mux}", ["vsock"]
    assert {"--guest=pod-forky", "--proxy=p {listen} {mux}", "--link=vsock"} <= set(worker_options(option))
