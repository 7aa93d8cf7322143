"""Whether a run's choice of tests leaves any, known before a host is made ready for them."""

from __future__ import annotations

import difflib
import os
import re

import pytest

from harness.host.paths import from_here
from harness.plugin import nodes
from harness.plugin.asked import Asked
from harness.plugin.collect import KEYS, other_yaml, scenario_files

CONTROLLER = "vsock-harness-controller"
"""The name of the plugin that brings hosts up."""

_SHOWN = 3
"""Files of others that are named at most."""


def chosen(config: pytest.Config) -> str:
    """What the command line says of which tests to run, empty if it leaves it at paths."""
    option = config.option
    words = [f"-k {option.keyword!r}"] if option.keyword else []
    words += [f"-m {option.markexpr!r}"] if option.markexpr else []
    words += [f"--link {link}" for link in option.vsock_links or []]
    words += [f"--deselect {prefix}" for prefix in option.deselect or []]
    words += [argument for argument in config.args if "::" in argument]
    return " ".join(words)


def wanted(config: pytest.Config, wish: Asked) -> bool:
    """Whether nothing may be left: a choice was made by names, or it isn't sure of the scenarios.

    To collect everything takes a second or two, and mostly something is left.
    """
    option = config.option
    by_name = option.keyword or option.deselect or any("::" in argument for argument in config.args)
    return bool(by_name) or not wish.sure


def leaves_none(config: pytest.Config) -> bool:
    """Whether pytest, collecting as in a run, finds no test, or not one that the arguments name.

    A child of this process collects, so that nothing of it stays here; it takes a fraction of a second, as
    all is imported. What else goes wrong there is left to the run.
    """
    child = os.fork()
    if child == 0:
        _collect(config)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR)


def _collect(config: pytest.Config) -> None:
    """In the child: does not return, and says nothing but its exit code, pytest's."""
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        config.option.collectonly = True
        config.option.xmlpath = None
        at_home(config)
        for name in (CONTROLLER, "capturemanager"):  # the latter would put back the output that it knows
            config.pluginmanager.unregister(name=name)
        code = int(config.hook.pytest_cmdline_main(config=config))
    except pytest.UsageError:  # a node id or a marker that is not there; the run will say so
        code = int(pytest.ExitCode.USAGE_ERROR)
    finally:
        os._exit(code)


def at_home(config: pytest.Config) -> None:
    """Have pytest collect in this process itself, without workers."""
    config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def words(config: pytest.Config) -> list[str]:
    """Why there is nothing to run, and what there is to choose from."""
    files, others, choice = scenario_files(config), other_yaml(config), chosen(config)
    said = [f"nothing is left by {choice}" if choice else f"no test in {', '.join(config.args)}"]
    if config.option.keyword and files:
        stems = [path.stem for path in files]
        asked = re.split(r"[^\w.-]+", config.option.keyword)
        near = [name for word in asked for name in difflib.get_close_matches(word, stems, n=1)]
        guess = f"; did you mean {near[0]!r}?" if near else ""
        said.append(f"-k is matched against parts of names like {files[0].name}::vsock{guess}")
    if others and not files:
        names = ", ".join(str(from_here(path)) for path in others[:_SHOWN]) + ", …" * (len(others) > _SHOWN)
        said.append(f"no scenario: {names}: one has at least two of the keys {', '.join(KEYS)}")
    elif not files and not all("::" in argument for argument in config.args):
        said.append("a scenario is a file NAME.yaml, a test module is called test_NAME.py")
    return said + nodes.words(config.args, config.invocation_params.dir)
