"""Runs of pytest with two local workers on two made-up hosts, which fail as told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec

from tests.unit.hangs import HANGS

ROOT = Path(__file__).resolve().parents[2]
"""Of this checkout, whichever is installed."""

TRYING = """
import os
import pathlib

from harness.model.deadline import Deadline, until

STATE = pathlib.Path(os.environ["STATE"])
LOST = "its worker was lost: Not properly terminated"


def here():
    return os.environ["HOST"]


def tries(name):
    '''How often this was called with that name, on any host.'''
    with (STATE / f"tries-{name}").open("a") as file:
        file.write(here() + "\\n")
    return len((STATE / f"tries-{name}").read_text().splitlines())


def die():
    os._exit(9)


def oops(text="kernel BUG at x.c:1\\n  Call Trace"):
    (STATE / f"trouble-{here()}").write_text(text)


def tell(what):
    (STATE / what).touch()


def wait_for(what):
    until((STATE / what).exists, Deadline(600), what)
"""

HOSTS = """
import dataclasses
import os

import pytest
from trying import STATE, tell, wait_for


class Hosts:
    '''Whose troubles are files, and whose replacements are lines of one.'''

    def trouble(self, alias):
        path = STATE / f"trouble-{alias}"
        return path.read_text() if path.exists() else None

    def fixed(self, alias):
        return f"{alias} is not ours" if "FIXED" in os.environ else None

    def replace(self, alias):
        from harness.model.errors import InfrastructureError

        with (STATE / "replaced").open("a") as file:
            file.write(alias + "\\n")
        tell("replacing")
        if (STATE / "no-lab").exists():
            raise InfrastructureError("no lab comes up")
        if (STATE / "bug").exists():
            raise ValueError("a bug of ours")
        if "WAIT" in os.environ:
            wait_for(os.environ["WAIT"])
        (STATE / f"trouble-{alias}").unlink(missing_ok=True)
        (STATE / f"fresh-{alias}").touch()


def pytest_cmdline_main(config):
    if not hasattr(config, "workerinput"):
        from harness.plugin import rerunuse

        # as the harness does, what is the controller's alone is not sent to workers
        args = [word for word in config.invocation_params.args if word != "-x"]
        config.invocation_params = dataclasses.replace(config.invocation_params, args=tuple(args))
        count = int(os.environ.get("COUNT", "2"))
        rerunuse.use(config, Hosts(), count, lambda spec: spec.env["HOST"])


def pytest_testnodeready(node):
    tell("ready-" + node.gateway.spec.env["HOST"])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart():
    '''xdist gives the first items to the worker that was ready first.'''
    if os.environ.get("HOST") == "two" and "BAD" not in os.environ:
        wait_for("ready-one")


def pytest_runtest_logreport(report):
    if "HOST" not in os.environ:
        tell("shown-" + report.nodeid.rpartition("_")[2])


def pytest_runtest_logfinish(nodeid):
    if "HOST" not in os.environ:
        tell("finished-" + nodeid.rpartition("_")[2])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    if "HOST" not in os.environ:
        tell("end")
"""


class Result(msgspec.Struct, frozen=True):
    """What came of a run: `replaced` are the hosts that were asked for, in order."""

    code: int
    said: str
    replaced: list[str]
    cases: dict[str, ET.Element]
    state: Path

    @property
    def counts(self) -> str:
        """pytest's last line, without the time."""
        return str(re.findall(r"=+ (.*) in [\d.]+s.* =+", self.said)[-1])

    def count(self, tag: str) -> list[str]:
        """The test cases in JUnit XML that have such an element."""
        return [name for name, case in self.cases.items() if case.find(tag) is not None]

    def rerun(self, name: str) -> str | None:
        """The test case's property `rerun`."""
        found = [
            entry.get("value") for entry in self.cases[name].iter("property") if entry.get("name") == "rerun"
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def where(self, name: str) -> list[str]:
        """The hosts on which an item counted its tries."""
        return (self.state / f"tries-{name}").read_text().split()


class Project:
    """A folder with the module of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "pytest.ini").touch()
        (folder / "trying.py").write_text(TRYING)
        (folder / "hosts.py").write_text(HOSTS)

    def write(self, text: str, name: str = "test_it.py") -> None:
        (self.folder / name).write_text("import pytest\nfrom trying import *\n" + textwrap.dedent(text))

    def start(self, *words: str, hosts: str = "one two", **env: str) -> subprocess.Popen[str]:
        """Begin a run with a worker on each of `hosts`; more of its worker's spec may follow a name."""
        argv = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-v",
            "-p",
            "no:cacheprovider",
            "-p",
            "xdist",
            "-p",
            "hosts",
        ]
        argv += [f"--tx=popen//env:HOST={host}" for host in hosts.split()]
        argv += ["--dist=load", "--maxschedchunk=1", "--junitxml=junit.xml", *words]
        added = {
            "STATE": str(self.state),
            "PYTHONPATH": f"{self.folder}:{ROOT}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        return subprocess.Popen(
            argv,
            cwd=self.folder,
            env={**os.environ, **added, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Result:
        said = process.communicate(timeout=HANGS)[0]
        sys.stdout.write(said)
        cases = list(ET.parse(self.folder / "junit.xml").iter("testcase"))
        named = {case.get("name", "").removeprefix("test_"): case for case in cases}
        assert len(named) == len(cases)
        calls = self.state / "replaced"
        replaced = calls.read_text().split() if calls.exists() else []
        return Result(process.returncode, said, replaced, named, self.state)

    def run(self, *words: str, hosts: str = "one two", **env: str) -> Result:
        return self.end(self.start(*words, hosts=hosts, **env))


def six(first: str) -> str:
    """Six items; at the start the host `one` has a and b, the host `two` has c and d, the rest waits."""
    rest = "\n".join(f"def test_{name}(): tries({name!r})" for name in "bcdef")
    return f"{textwrap.dedent(first)}\n{rest}\n"


DIES_ONCE = """
    def test_a():
        if tries("a") == 1:
            die()
"""
LOST = "its worker was lost: Not properly terminated"
