"""Hosts that fail in the middle of a run; each case a pytest with two local workers on two made-up hosts."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xdist.dsession import DSession
from xdist.scheduler import LoadScheduling, WorkStealingScheduling
from xdist.workermanage import WorkerController

from harness.model.deadline import Deadline, until

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

    def replace(self, alias):
        from harness.model.errors import InfrastructureError

        with (STATE / "replaced").open("a") as file:
            file.write(alias + "\\n")
        tell("replacing")
        if (STATE / "no-lab").exists():
            raise InfrastructureError("no lab comes up")
        if "WAIT" in os.environ:
            wait_for(os.environ["WAIT"])
        (STATE / f"trouble-{alias}").unlink(missing_ok=True)
        (STATE / f"fresh-{alias}").touch()


def pytest_cmdline_main(config):
    if not hasattr(config, "workerinput"):
        from harness.plugin import rerunsession

        # as the harness does, what is the controller's alone is not sent to workers
        args = [word for word in config.invocation_params.args if word != "-x"]
        config.invocation_params = dataclasses.replace(config.invocation_params, args=tuple(args))
        count = int(os.environ.get("COUNT", "2"))
        rerunsession.use(config, Hosts(), count, lambda spec: spec.env["HOST"])


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
            "PYTHONPATH": str(self.folder),
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
        said = process.communicate(timeout=120)[0]
        sys.stdout.write(said)
        cases = list(ET.parse(self.folder / "junit.xml").iter("testcase"))
        named = {case.get("name", "").removeprefix("test_"): case for case in cases}
        assert len(named) == len(cases)
        calls = self.state / "replaced"
        replaced = calls.read_text().split() if calls.exists() else []
        return Result(process.returncode, said, replaced, named, self.state)

    def run(self, *words: str, hosts: str = "one two", **env: str) -> Result:
        return self.end(self.start(*words, hosts=hosts, **env))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


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


@pytest.mark.slow
@pytest.mark.parametrize("dist", ["load", "worksteal"])
def test_a_worker_is_lost_and_its_item_run_once_more(project: Project, dist: str) -> None:
    project.write(six(DIES_ONCE))
    done = project.run("--dist", dist)
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert re.search(r"^\[gw0\] \[ *\d+%\] RERUN test_it.py::test_a $", done.said, re.MULTILINE)
    assert f"RERUN test_it.py::test_a on one: {LOST}\n" in done.said
    assert "one was replaced in " in done.said
    assert done.where("a")[0] == "one"
    assert {name: len(done.where(name)) for name in "abcdef"} == dict.fromkeys("abcdef", 1) | {"a": 2}
    assert {name: done.rerun(name) for name in done.cases} == dict.fromkeys("bcdef") | {"a": f"one: {LOST}"}
    assert not done.count("failure") + done.count("error")


@pytest.mark.slow
def test_a_run_with_one_host_goes_on_with_its_replacement(project: Project) -> None:
    project.write(DIES_ONCE + "    def test_b(): tries('b')")
    done = project.run("-q", hosts="one")
    assert done.code == 0
    assert done.counts == "2 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert done.where("a") == ["one", "one"]
    assert done.where("b") == ["one"]
    assert re.search(r"^R$", done.said, re.MULTILINE)


@pytest.mark.slow
def test_others_go_on_while_a_host_is_replaced_and_do_not_wait_for_it_at_the_end(project: Project) -> None:
    project.write(six(DIES_ONCE))
    done = project.run(WAIT="end")
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert done.where("a") == ["one", "two"]
    assert "was not replaced" not in done.said


@pytest.mark.slow
def test_an_item_that_brings_two_hosts_down_is_an_error_with_both_reasons(project: Project) -> None:
    project.write(six("def test_a():\n    tries('a')\n    die()"))
    done = project.run()
    assert done.code == 1
    assert done.counts == "5 passed, 1 error, 1 rerun"
    assert len(done.where("a")) == 2
    assert done.count("error") == ["a"]
    assert not done.count("failure")
    text = done.cases["a"].findtext("error") or ""
    assert re.search(rf"failed at both tries\n  first: one: {LOST}\n  then: (one|two): {LOST}", text), text
    assert text in done.said
    assert done.rerun("a") == f"one: {LOST}"


@pytest.mark.slow
def test_without_a_replacement_the_others_take_over(project: Project) -> None:
    (project.state / "no-lab").touch()
    project.write(six(DIES_ONCE))
    done = project.run()
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert done.where("a") == ["one", "two"]
    assert {*done.where("b"), *done.where("f")} == {"two"}
    assert done.said.count("one was not replaced: no lab comes up") == 2


@pytest.mark.slow
def test_without_a_replacement_others_that_had_nothing_left_begin_anew(project: Project) -> None:
    (project.state / "no-lab").touch()
    project.write(DIES_ONCE + "    def test_b(): tries('b')")
    done = project.run()
    assert done.code == 0
    assert done.counts == "2 passed, 1 rerun"
    assert done.where("a") == ["one", "two"]
    assert "[gw2]" in done.said


@pytest.mark.slow
def test_without_any_host_the_run_ends_and_tells_what_it_left_out(project: Project) -> None:
    (project.state / "no-lab").touch()
    project.write("def test_z(): pass\n" + six(DIES_ONCE))
    done = project.run(hosts="one")
    assert done.code == 1
    assert done.counts == "1 passed, 1 rerun, 6 not run"
    assert "no host is left: 6 of 7 items were not run" in done.said
    assert "test_it.py::test_b NOT RUN" in done.said
    assert "INTERNALERROR" not in done.said
    assert done.count("error") == list("abcdef")
    assert done.cases["b"].findtext("error") == "not run: no host was left"
    assert done.rerun("a") == f"one: {LOST}"


STILLBORN = """
if "HOST" in os.environ and here() in os.environ["BAD"].split() and tries("start-" + here()) == 1:
    die()
"""


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["", "no-lab"])
def test_a_worker_is_lost_before_it_knows_its_items(project: Project, lab: str) -> None:
    project.write(STILLBORN, "conftest.py")
    project.write(six("def test_a(): tries('a')"))
    if lab:
        (project.state / lab).touch()
    done = project.run(BAD="one")
    assert done.code == 0
    assert done.counts == "6 passed"
    assert done.replaced == ["one"]
    assert ({*done.where("a"), *done.where("c")} == {"two"}) is bool(lab)


@pytest.mark.slow
def test_all_workers_are_lost_before_they_know_their_items(project: Project) -> None:
    (project.state / "no-lab").touch()
    project.write(STILLBORN, "conftest.py")
    project.write("def test_a(): pass")
    done = project.run(BAD="one two")
    assert done.code == 1
    assert sorted(done.replaced) == ["one", "two"]
    assert "no host is left: all items were not run" in done.said
    assert "INTERNALERROR" not in done.said


@pytest.mark.slow
def test_a_worker_that_raises_would_raise_on_another_host_too(project: Project) -> None:
    project.write('if "HOST" in os.environ:\n    raise RuntimeError("broken here")\n', "conftest.py")
    project.write("def test_a(): pass")
    done = project.run(BAD="one two")
    assert done.code == 1
    assert not done.replaced
    for host in ("one", "two"):
        assert re.search(
            rf"^{host} was not replaced: its worker was lost: .+\n    Traceback", done.said, re.MULTILINE
        )
    assert "RuntimeError: broken here" in done.said
    assert "no host is left: all items were not run" in done.said


FRESH_IS_ODD = """
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    if "HOST" in os.environ and (STATE / f"fresh-{here()}").exists():
        tell("odd")
        if os.environ["ODD"] == "refuses":
            raise pytest.UsageError("not here")
        items.pop()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ("refuses", "pytest refused its command line there"),
        ("differs", "it found 5 items that are not the 6 of the first worker"),
    ],
)
def test_a_fresh_host_that_is_of_no_use_is_not_replaced_again(project: Project, odd: str, told: str) -> None:
    project.write(FRESH_IS_ODD, "conftest.py")
    project.write(six(DIES_ONCE).replace("tries('c')", "wait_for('odd')"))
    done = project.run(ODD=odd)
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert f"one was not replaced: {told}\n" in done.said
    assert done.where("a") == ["one", "two"]


@pytest.mark.slow
def test_a_fresh_host_that_starts_no_worker_is_replaced(project: Project) -> None:
    python = project.folder / "python"
    test = '[ -e "$STATE/fresh-one" ] && [ ! -e "$STATE/refused" ]'
    python.write_text(f"""#!/bin/sh
if {test}; then touch "$STATE/refused"; exit 1; fi
exec {sys.executable} "$@"
""")
    python.chmod(0o755)
    project.write(DIES_ONCE)
    done = project.run(hosts=f"one//python={python}")
    assert done.code == 0
    assert done.counts == "1 passed, 1 rerun"
    assert done.replaced == ["one", "one"]
    assert "one: no worker can be started there: " in done.said


SPOILT = """
    @pytest.fixture
    def fixed():
        if PHASE == "setup":
            spoil()
        yield
        if PHASE == "teardown":
            spoil()

    def test_a(fixed):
        if PHASE == "call":
            spoil()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "dist"), [("setup", "load"), ("call", "worksteal"), ("teardown", "load")])
def test_an_item_that_fails_on_a_host_with_trouble_is_run_once_more(
    project: Project, phase: str, dist: str
) -> None:
    spoil = "def spoil():\n    if tries('spoil') == 1:\n        oops()\n        pytest.fail('odd')\n"
    project.write(f"PHASE = {phase!r}\n{spoil}\n{six(SPOILT)}")
    done = project.run("--dist", dist)
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert len(done.where("spoil")) == 2
    assert len(done.cases) == 6
    assert not done.count("failure") + done.count("error")
    assert done.rerun("a") == "one: kernel BUG at x.c:1\n  Call Trace"
    assert "RERUN test_it.py::test_a on one: kernel BUG at x.c:1\n      Call Trace\n" in done.said
    assert done.said.count("node down: one: kernel BUG at x.c:1\n") == 1
    assert done.said.count("node down") == 1
    assert done.said.count("PASSED test_it.py::test_b") == 1


@pytest.mark.slow
def test_an_item_that_fails_on_a_second_host_with_trouble_is_an_error(project: Project) -> None:
    project.write(six("def test_a():\n    oops(f'oops {tries(chr(97))}')\n    pytest.fail('odd')"))
    done = project.run()
    assert done.code == 1
    assert done.counts == "5 passed, 1 error, 1 rerun"
    assert done.count("error") == ["a"]
    assert not done.count("failure")
    text = done.cases["a"].findtext("error") or ""
    assert re.search(r"first: one: oops 1\n  then: (one|two): oops 2\n", text), text
    assert "Failed: odd" in text
    assert len(done.where("a")) == 2


@pytest.mark.slow
def test_neither_a_failure_without_trouble_nor_trouble_without_a_failure_is_the_hosts(
    project: Project,
) -> None:
    project.write("""
        def test_a():
            pytest.fail("odd")

        def test_b():
            wait_for("shown-a")
            oops()

        def test_c(): pass
        def test_d(): pass
    """)
    done = project.run()
    assert done.code == 1
    assert done.counts == "1 failed, 3 passed"
    assert done.count("failure") == ["a"]
    assert not done.replaced


@pytest.mark.slow
@pytest.mark.parametrize(("times", "code"), [(1, 0), (2, 2)])
def test_maxfail_counts_errors_but_no_reruns(project: Project, times: int, code: int) -> None:
    project.write(DIES_ONCE.replace("== 1", f"<= {times}") + "    def test_b(): pass")
    done = project.run("-x", hosts="one")
    assert done.code == code
    assert ("stopping after 1 failures" in done.said) is (times == 2)
    assert done.counts == ("2 passed, 1 rerun" if times == 1 else "1 error, 1 rerun")


@pytest.mark.slow
@pytest.mark.parametrize(("words", "most"), [([], 2), (["--max-worker-restart=0"], 0)])
def test_there_is_an_end_to_replacing(project: Project, words: list[str], most: int) -> None:
    project.write(
        "\n".join(DIES_ONCE.replace("test_a", f"test_{name}").replace('"a"', f"{name!r}") for name in "abc")
    )
    done = project.run(*words, hosts="one", COUNT="0")
    assert done.code == 1
    assert done.replaced == ["one"] * most
    assert f"one was not replaced: {most} replacements were made in this run, which is the most" in done.said
    assert f"no host is left: {3 - most} of 3 items were not run" in done.said


@pytest.mark.slow
def test_workers_of_one_host_share_its_replacement(project: Project) -> None:
    first = "def test_a():\n    if tries('a') == 1:\n        wait_for('tries-c')\n        die()\n"
    waits = "len(tries('c') == 1 and [wait_for('end')] or [])"
    project.write(six(first).replace("tries('c')", waits, 1))
    done = project.run(hosts="one one")
    assert done.code == 0
    assert done.counts == "6 passed, 2 rerun"
    assert done.replaced == ["one"]
    assert done.rerun("a") == f"one: {LOST}"
    assert done.rerun("c") == "one: its host was replaced, as another worker there was lost"


BROKEN = """
def pytest_runtest_logfinish(nodeid):
    if "HOST" in os.environ and nodeid.endswith("_a") and tries("finish") == 1:
        if "OOPS" in os.environ:
            oops()
        raise RuntimeError("a bug")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("env", "code"), [({"OOPS": "1"}, 0), ({}, 3)])
def test_a_worker_with_an_internal_error_is_lost_if_its_host_has_trouble(
    project: Project, env: dict[str, str], code: int
) -> None:
    project.write(BROKEN, "conftest.py")
    project.write(six("def test_a(): tries('a')"))
    done = project.run(**env)
    assert done.code == code
    assert ("INTERNALERROR" in done.said) is (code == 3)
    if code == 0:
        assert done.counts == "6 passed"  # a had ended, and well
        assert done.where("a") == ["one"]
        assert done.replaced == ["one"]


INTERRUPTED = """
    @pytest.fixture
    def fixed(request):
        yield
        item = request.node
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        wait_for("end")

    def test_a():
        wait_for("finished-c")
        die()

    def test_b(): pass

    def test_c(fixed):
        pytest.fail("odd")

    def test_d(): pass
"""


@pytest.mark.slow
def test_ctrl_c_while_a_host_is_replaced_ends_the_run(project: Project) -> None:
    project.write(INTERRUPTED)
    process = project.start(WAIT="end")
    try:
        until((project.state / "replacing").exists, Deadline(600), "a replacement")
        process.send_signal(signal.SIGINT)
        done = project.end(process)
    finally:
        process.kill()
        process.wait()
    assert done.code == 2
    assert done.replaced == ["one"]
    assert done.counts == "1 failed, 1 rerun"  # what c had told before it was interrupted
    assert f"RERUN test_it.py::test_a on one: {LOST}\n" in done.said
    assert "KeyboardInterrupt" in done.said
    assert "INTERNALERROR" not in done.said


@pytest.mark.slow
def test_another_way_to_distribute_replaces_nothing(project: Project) -> None:
    project.write(six(DIES_ONCE))
    done = project.run("--dist=loadfile")
    assert done.code != 0
    assert "worker restarting disabled" in done.said
    assert not done.replaced


def test_collecting_only_starts_no_worker(project: Project) -> None:
    project.write("def test_a(): pass")
    done = project.run("--collect-only")
    assert done.code == 0
    assert "1 test collected" in done.said


PINNED: dict[Callable[..., Any], str] = {
    DSession.__init__: "cfbee6cd6af1f064",
    DSession.loop_once: "b46dac2c0a3353a6",
    DSession.pytest_runtestloop: "218cb240304d06c4",
    DSession.triggershutdown: "4df505771ffe9349",
    DSession.worker_collectionfinish: "0a8519c2224cf889",
    DSession.worker_errordown: "3ffddef4844df0f4",
    DSession.worker_internal_error: "89050a4318b70ab6",
    DSession.worker_runtest_protocol_complete: "b0d09aff28f12b88",
    DSession.worker_testreport: "34860d0a34b6b241",
    DSession.worker_workerfinished: "829121c1b3a4082f",
    DSession.worker_workerready: "c67fce7c9b617316",
    DSession._clone_node: "1ae5f3754ffd2001",
    WorkerController.process_from_remote: "04637e607a69d721",
    WorkerController.shutdown: "255aafb2b94f4bf6",
    LoadScheduling: "e7bfa3d2b53a77d7",
    WorkStealingScheduling: "8b47ace0769e4b92",
}
"""What rerunsession.py and rerunwork.py rely on; each with the start of the sha256 of its source."""


@pytest.mark.parametrize("part", PINNED, ids=lambda part: part.__qualname__)
def test_xdist_is_what_the_session_was_written_against(part: Callable[..., Any]) -> None:
    found = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]
    assert found == PINNED[part], (
        "read what changed in xdist, look whether rerunsession.py still holds; then pin it"
    )
