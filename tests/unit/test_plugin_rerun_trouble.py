"""Hosts with trouble of their own while an item fails on them, and where running again ends."""

from __future__ import annotations

import hashlib
import inspect
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from xdist.dsession import DSession
from xdist.scheduler import LoadScheduling, WorkStealingScheduling
from xdist.workermanage import WorkerController

from harness.model.deadline import Deadline, until
from tests.unit.rerunning import DIES_ONCE, LOST, Project, six

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
    WorkerController.sendcommand: "7b2e93cb2781c76b",
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
