"""What goes to a host beside what the arguments name."""

from __future__ import annotations

import copy
import hashlib
import types
from pathlib import Path
from typing import cast

import pytest

from harness.cli.run import SHIPPED
from harness.model.errors import UsageError
from harness.model.proxy import command
from harness.plugin import options
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


PLACES = "-l unix://{listen} -m {mux}"


def given(folder: Path, proxy: str | None) -> pytest.Config:
    """What of a configuration options about a proxy look at: the command line was typed in `folder`."""
    made = types.SimpleNamespace(
        option=types.SimpleNamespace(vsock_proxy=proxy), invocation_params=types.SimpleNamespace(dir=folder)
    )
    return cast(pytest.Config, made)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a folder ``my bin``."""
    path = tmp_path / "my bin" / "a proxy"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("where", ["my bin", "./my bin", "{here}/my bin"])
def test_a_proxy_by_its_path_is_the_users_own(program: Path, tmp_path: Path, where: str) -> None:
    config = given(tmp_path, f"'{where.format(here=tmp_path)}/a proxy' {PLACES}")
    assert options.proxy(config) == (str(program), *PLACES.split())
    assert options.own_proxy(config) == program
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    (line,) = options.proxy_line(config)
    assert line.endswith(f"/a proxy' {PLACES} (SHA-256 {digest}…)")


@pytest.mark.parametrize("word", ["kata-proxy", "/nowhere/kata-proxy"])
def test_a_proxy_by_name_or_by_a_path_of_elsewhere_is_there(tmp_path: Path, word: str) -> None:
    (tmp_path / "kata-proxy").write_text("")
    config = given(tmp_path, f"{word} {PLACES}")
    assert options.proxy(config)[0] == word
    assert options.own_proxy(config) is None
    assert options.proxy_line(config) == [f"proxy: {word} {PLACES}"]


def test_without_an_own_proxy_nothing_is_sent(tmp_path: Path) -> None:
    assert options.proxy(given(tmp_path, None)) == ()
    assert options.own_proxy(given(tmp_path, None)) is None
    assert options.proxy_line(given(tmp_path, None)) == []


@pytest.mark.parametrize(
    ("word", "says"), [("./nowhere", "no such file"), ("./", "no program"), ("./plain", "no program")]
)
def test_a_proxy_that_cannot_be_run_is_a_mistake(tmp_path: Path, word: str, says: str) -> None:
    (tmp_path / "plain").touch(0o644)
    with pytest.raises(UsageError) as told:
        options.proxy(given(tmp_path, f"{word} {PLACES}"))
    assert told.value.summary.startswith(f"--proxy {word}: {says}")


def test_workers_elsewhere_run_the_proxy_that_was_sent(program: Path, pytestconfig: pytest.Config) -> None:
    option = copy.copy(pytestconfig.option)
    option.vsock_proxy = f"'my bin/a proxy' {PLACES}"
    (word,) = (word for word in worker_options(option, program) if word.startswith("--proxy="))
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    assert command(word.removeprefix("--proxy=")) == (f"../program-{digest}/a proxy", *PLACES.split())
