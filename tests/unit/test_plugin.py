"""The pytest plugin where no VM is needed: collection, mistakes, options; each case a pytest of its own."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report import folders

SCENARIO = """\
title: One client
claim: serial-portable
links: [vsock, virtio-serial]
clients: 1
workload:
  - ping: {}
expect:
  vsock: {served: 1}
  virtio-serial: {served: 1}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/one.yaml").write_text(SCENARIO)
    (tmp_path / "pytest.ini").touch()
    return tmp_path


def run(project: Path, *words: str, largest: int | None = None) -> tuple[int, str]:
    """Exit code and output of pytest there, with a cache folder that must stay empty.

    No file may become larger than `largest` bytes.
    """
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *words]
    argv = argv if largest is None else ["prlimit", f"--fsize={largest}:{largest}", *argv]
    env = {**os.environ, "XDG_CACHE_HOME": str(project / "cache")}
    done = subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert not (project / "cache").exists()
    return done.returncode, done.stdout + done.stderr


def test_an_item_for_each_link(project: Path) -> None:
    code, said = run(project, "--collect-only", "-q")
    assert code == 0
    assert "scenarios/one.yaml::vsock\nscenarios/one.yaml::virtio-serial\n" in said


def test_link_leaves_the_others_out(project: Path) -> None:
    code, said = run(project, "--collect-only", "-q", "--link", "vsock")
    assert code == 0
    assert "1/2 tests collected (1 deselected)" in said


@pytest.mark.parametrize(
    ("words", "boots"),
    [([], "clone cold"), (["--boot", "cold"], "cold cold"), (["--boot=clone"], "clone clone")],
)
def test_boot_is_as_the_command_line_says_or_the_file(project: Path, words: list[str], boots: str) -> None:
    one = project / "scenarios/one.yaml"
    one.write_text(SCENARIO + "boot: {default: clone, virtio-serial: cold}\n")
    hook = "def pytest_collection_finish(session):\n    print(*(item.plan.boot for item in session.items))\n"
    (project / "conftest.py").write_text(hook)
    code, said = run(project, "--collect-only", "-q", *words)
    assert code == 0
    assert boots in said.splitlines()


def test_what_takes_long_goes_first(project: Path) -> None:
    (project / "scenarios/two.yaml").write_text(SCENARIO + "long: [virtio-serial]\n")
    six = SCENARIO.replace("clients: 1", "clients: 6").replace("served: 1", "served: 6")
    (project / "scenarios/six.yaml").write_text(six)
    code, said = run(project, "--collect-only", "-q")
    assert code == 0
    first, *rest = [line for line in said.splitlines() if "::" in line]
    assert first == "scenarios/two.yaml::virtio-serial"
    assert rest == [
        *("scenarios/six.yaml::virtio-serial", "scenarios/six.yaml::vsock"),
        *("scenarios/one.yaml::vsock", "scenarios/one.yaml::virtio-serial"),
        "scenarios/two.yaml::vsock",
    ]


def test_a_typo_is_one_error_before_anything_is_built_or_booted(project: Path) -> None:
    (project / "scenarios/one.yaml").write_text(SCENARIO.replace("clients:", "clinets:"))
    code, said = run(project, "scenarios", "--host", "lab")
    assert code == 4
    assert "scenarios/one.yaml:4:1: unknown key 'clinets'" in said
    assert "did you mean 'clients'?" in said
    assert said.count("ERROR") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "labb"], "did you mean 'lab'?"),
        (["--host", "ssh://"], "ssh://user@host"),
        (["--host", "lab", "--host", "ssh://x"], "only ssh:// hosts can be given together"),
        (["--host", "none"], "scenarios need a host"),
        (["--host", "ssh://x:99999"], "ports are 1 to 65535"),
        (["--host", "ssh://x", "--ssh-config", "nowhere"], "--ssh-config nowhere: no such file"),
        (["--host", "lab", "--ssh-config", "nowhere"], "--ssh-config nowhere: no such file"),
        (["--host", "lab", "--lab-memory", "100"], "a lab needs at least 1536 MiB"),
        (["--host", "lab", "--lab-memory", "99999999"], "a lab of 99999999 MiB needs "),
        (["--boot", "warm"], "(choose from 'clone', 'cold')"),
        (["--lab-kernel", "bookwrm"], "did you mean 'bookworm'?"),
        (["--lab-kernel", "forky", "--host", "local"], "--lab-kernel is about labs"),
        (["--guest", "pod-forki"], "did you mean 'pod-forky'?"),
        (["--guest", "lab"], "--guest lab: unknown"),
        (["--link", "vsok"], "did you mean 'vsock'?"),
        (["--proxy", "kata-proxy {listen}"], "--proxy: no {mux} in: kata-proxy {listen}"),
        (["--proxy", "./kata-proxy {listen} {mux}"], "--proxy ./kata-proxy: no such file"),
        (["--proxy", "scenarios/one.yaml {listen} {mux}"], "--proxy scenarios/one.yaml: no program that can"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(project: Path, words: list[str], told: str) -> None:
    code, said = run(project, "scenarios", *words)
    assert code == 4
    assert told in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["scenarios", "-k", "onne", "-n", "2"], "names like one.yaml::vsock; did you mean 'one'?"),
        (["scenarios", "-m", "long"], "nothing is left by -m 'long'"),
        (["scenarios/one.yaml", "--link", "isa-serial"], "nothing is left by --link isa-serial"),
        (["scenarios/test_it.py::test_that"], "scenarios/test_it.py has no 'test_that'; it has test_it; "),
    ],
)
def test_where_nothing_matches_no_host_is_made_ready(project: Path, words: list[str], told: str) -> None:
    (project / "scenarios/test_it.py").write_text("def test_it():\n    pass\n")
    code, said = run(project, "--host", "lab", "--junitxml", "x.xml", *words)
    is_named = "::" in words[0]
    assert code == (4 if is_named else 5), said
    assert told in said
    assert said.count("deselected / 0 selected") == (0 if is_named else 1)
    assert "host: none needed" in said
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["empty"], "no test in empty\na scenario is a file NAME.yaml"),
        (["more"], "no scenario: more/other.yaml: one has at least two of the keys claim, "),
        (["more", "-q"], "no scenario: more/other.yaml: "),
        (["more", "--collect-only", "-q"], "no scenario: more/other.yaml: "),
        (["more/test_none.py"], "no test in more/test_none.py"),
    ],
)
def test_where_there_is_no_test_no_host_is_made_ready(project: Path, words: list[str], told: str) -> None:
    (project / "empty").mkdir()
    (project / "more").mkdir()
    (project / "more/other.yaml").write_text("title: another's\nlinks: []\n")
    (project / "more/test_none.py").touch()
    code, said = run(project, "--host", "lab", *words)
    assert code == 5, said
    assert told in said
    assert not (project / "results").exists()


def test_a_folder_that_is_named_need_not_be_called_scenarios(project: Path) -> None:
    (project / "scenarios").rename(project / "bugs")
    code, said = run(project, "--collect-only", "-q", "bugs")
    assert code == 0
    assert "bugs/one.yaml::vsock\n" in said
    code, _ = run(project, "--collect-only", "-q")  # an other's YAML is not looked for everywhere
    assert code == 5


@pytest.mark.parametrize(("words", "code"), [(["--host", "auto"], 4), ([], 2)])
def test_a_list_says_what_is_wrong_with_a_file(project: Path, words: list[str], code: int) -> None:
    """With a host, as `vsock-harness run --list`; without, as an editor lists tests, the others are there."""
    (project / "scenarios/two.yaml").write_text(SCENARIO.replace("clients:", "clinets:"))
    found, said = run(project, "--collect-only", "-q", *words, "scenarios")
    assert found == code
    assert "scenarios/two.yaml:4:1: unknown key 'clinets'" in said
    assert ("scenarios/one.yaml::vsock" in said) is (not words)


def test_tests_that_bring_their_hosts_need_none_and_get_a_report(project: Path) -> None:
    (project / "test_it.py").write_text("def test_it():\n    pass\n")
    code, said = run(project, "test_it.py", "--host", "none")
    assert code == 0
    assert "host: none" in said
    assert (project / "results/latest/report.html").exists()


FULL = """\
def test_fine():
    pass

def test_wrong():
    raise AssertionError("x" * 20_000)

def test_said(record_property):
    record_property("long", "y" * 20_000)
"""


@pytest.mark.parametrize(("tests", "code"), [("fine", 0), ("wrong", 1), ("said", 3)])
def test_on_a_full_disk_the_verdicts_stand_and_what_is_missing_is_named(
    project: Path, tests: str, code: int
) -> None:
    (project / "test_it.py").write_text(FULL)
    done, said = run(project, "test_it.py", "--host", "none", "-k", tests, largest=2048)
    folder = (project / "results/latest").resolve()
    assert done == code, said
    assert f"1 {'failed' if tests == 'wrong' else 'passed'}" in said
    assert f"can't be written: {folder}/report.html: File too large" in said
    assert "INTERNALERROR" not in said
    assert (f"{folder}/junit.xml: File too large" in said) is (tests != "fine")
    assert (folder / "summary.md").exists()
    assert not list(folder.glob("report.html*")), "half a report"
    assert (folder / "junit.xml").exists() is (tests == "fine")


def test_where_nothing_can_be_written_nothing_is_run(project: Path) -> None:
    (project / "test_it.py").write_text(FULL)
    code, said = run(project, "test_it.py", "--host", "none", largest=64)
    assert code == 4
    assert "ERROR: nothing can be written to" in said
    assert "hint: --results DIR" in said


def test_other_peoples_yaml_is_left_alone(project: Path) -> None:
    (project / "scenarios/one.yaml").unlink()
    (project / "scenarios/other.yaml").write_text("name: a workflow\njobs: {}\n")
    (project / "test_it.py").write_text("def test_it():\n    pass\n")
    code, said = run(project)
    assert code == 0
    assert "1 passed" in said


def test_runs_that_begin_at_once_each_have_a_folder_and_latest_is_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(secrets, "token_hex", lambda size: f"{next(numbers):04x}")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(folders.new, [tmp_path] * 200))
    assert len(set(made)) == 200
    assert (tmp_path / "latest").resolve() in made
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made} | {"latest"}
