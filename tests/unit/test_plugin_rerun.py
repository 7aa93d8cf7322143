"""Workers that are lost in the middle of a run, and their items, which are run once more."""

from __future__ import annotations

import re
import sys

import pytest

from tests.unit.rerunning import DIES_ONCE, LOST, Project, six


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


DEAD_AT = """
import threading

from xdist.workermanage import Marker, WorkerController

COMPLETE, FAILED = threading.Event(), threading.Event()
SEND, RECEIVE = WorkerController.sendcommand, WorkerController.process_from_remote


def send(node, name, **details):
    try:
        SEND(node, name, **details)
    except OSError:
        FAILED.set()
        raise


def receive(node, told):
    if isinstance(told, tuple) and node.gateway.spec.env["HOST"] == "two":
        (COMPLETE.set if told[0] == "runtest_protocol_complete" else COMPLETE.clear)()
    # a thread hears of the death, within a millisecond; here it does so after the main thread's attempt
    if told is Marker.END and node.gateway.spec.env["HOST"] == os.environ["WHO"]:
        FAILED.wait(60)
    RECEIVE(node, told)


def pytest_configure(config):
    if "HOST" in os.environ:
        (STATE / f"pid-{os.environ['HOST']}").write_text(str(os.getpid()))
    else:
        WorkerController.sendcommand, WorkerController.process_from_remote = send, receive


def pytest_runtest_logfinish(nodeid):
    if "HOST" not in os.environ and nodeid.endswith(os.environ["AT"]):
        COMPLETE.wait(60)
        pid = int((STATE / f"pid-{os.environ['WHO']}").read_text())
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dist", "who", "at", "counts"),
    [
        # it waits for what it is to be sent
        ("load", "two", "test_c", "6 passed"),
        # it is in its first, while another's queue runs dry
        ("worksteal", "one", "test_e", "6 passed, 1 rerun"),
    ],
)
def test_a_worker_is_dead_when_it_is_told_to_take_an_item_or_give_one(
    project: Project, dist: str, who: str, at: str, counts: str
) -> None:
    project.write(DEAD_AT, "conftest.py")
    project.write(six(f"def test_a():\n    if tries('a') == 1 and {dist == 'worksteal'}: wait_for('never')"))
    done = project.run("--dist", dist, AT=at, WHO=who)
    assert done.code == 0
    assert done.counts == counts
    assert done.replaced == [who]


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
@pytest.mark.parametrize(
    ("broken", "why"), [("no-lab", "no lab comes up"), ("bug", "ValueError('a bug of ours')")]
)
def test_without_a_replacement_the_others_take_over(project: Project, broken: str, why: str) -> None:
    (project.state / broken).touch()
    project.write(six(DIES_ONCE))
    done = project.run()
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert done.replaced == ["one"]
    assert done.where("a") == ["one", "two"]
    assert {*done.where("b"), *done.where("f")} == {"two"}
    assert done.said.count(f"one was not replaced: {why}") == 2


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
def test_a_host_that_cannot_be_replaced_is_not_said_to_be(project: Project) -> None:
    project.write(six(DIES_ONCE))
    done = project.run(FIXED="1")
    assert done.code == 0
    assert done.counts == "6 passed, 1 rerun"
    assert not done.replaced
    assert "being replaced" not in done.said
    assert "one was not replaced: one is not ours\n" in done.said


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
