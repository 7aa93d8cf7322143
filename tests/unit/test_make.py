"""Make's targets, and CI's script."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.fake_programs import BASE, Programs

ROOT = Path(__file__).resolve().parents[2]


def make(*words: str) -> str:
    """What make would run."""
    environment = {"PATH": os.environ["PATH"], "HOST": "from-the-environment", "ARGS": "too"}
    done = subprocess.run(
        ["make", "-n", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_make_e2e_passes_its_variables_on_and_ignores_the_environment() -> None:
    assert make("e2e").splitlines()[-1].split() == [
        ".venv/bin/vsock-harness",
        *("run", "scenarios", "--host", "'auto'", "-m", "'not", "long'"),
    ]
    last = make("e2e", "HOST=lab", "LINK=vsock", "N=2", "ARGS=-k stale").splitlines()[-1]
    words = "run scenarios --host 'lab' --link 'vsock' -n '2' -m 'not long' -k stale"
    assert " ".join(last.split()).endswith(words)
    run = ["run", "scenarios", "--host", "'auto'", "--link"]
    assert make("catalogue").splitlines()[-1].split()[1:-1] == run
    assert "hybrid" not in make("catalogue").splitlines()[-1]
    assert make("catalogue", "LINK=vsock").splitlines()[-1].split()[1:] == [*run, "'vsock'"]
    assert "--guest debian -m 'not long'" in make("distribution").splitlines()[-1]
    assert make("backends").splitlines()[-1].split()[1:] == [*run, "'vsock,hybrid-vsock'"]


def test_kernels_of_hosts_and_of_guests_each_have_a_run_and_a_table() -> None:
    hosts = make("kernels", "KERNELS=trixie forky", "N=2").splitlines()[-1]
    assert "for one in trixie forky;" in hosts
    assert "--host 'lab'" in hosts
    assert "--lab-kernel $one --results results/kernels/$one" in hosts
    runs = "results/kernels/trixie/latest results/kernels/forky/latest"
    assert f"report {runs} >results/kernels/differences.md" in hosts
    guests = make("guests", "GUESTS=pod pod-forky", "LINK=hybrid-vsock").splitlines()[-1]
    assert "--host 'auto' --link 'hybrid-vsock'" in guests
    assert "--guest $one --results results/kernels/$one" in guests
    assert "results/kernels/pod/latest results/kernels/pod-forky/latest >results/kernels/guests.md" in guests


def test_make_sets_up_first_and_unit_tests_need_no_packages() -> None:
    assert make("e2e").startswith("python3 .ci/bootstrap.py --images\n")
    assert make("test").startswith("python3 .ci/bootstrap.py --images\n")
    assert make("unit", "PYTHON=python3.13").startswith("python3.13 .ci/bootstrap.py\n")


def test_make_test_runs_all_and_unit_leaves_out_the_slow() -> None:
    whole = make("test", "HOST=lab").splitlines()
    assert any("tests/unit" in line and "slow" not in line for line in whole)
    assert "tests/vm -v --host 'lab'" in whole[-1]
    assert "-m 'not slow'" in make("unit")


def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")]
    phony = (ROOT / "Makefile").read_text().partition(".PHONY: ")[2].splitlines()[0].split()
    assert listed[:-1] == [target for target in phony if target != "packages"]


@pytest.mark.parametrize(("test", "e2e"), [(0, 0), (2, 0), (0, 2), (2, 2)])
def test_ci_runs_both_and_fails_if_either_does(
    tmp_path: Path, programs: Programs, test: int, e2e: int
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    body = f"""[ "$CI" = true ] || exit 9
if read -r line; then exit 8; fi
case $1 in test) echo "=== 3 failed ==="; exit {test};; e2e) echo "=== 30 passed ==="; exit {e2e};; esac"""
    programs.add("make", body=body)
    done = subprocess.run(
        [tmp_path / ".ci/run"],
        env={"PATH": f"{programs.folder}:{BASE}"},
        input="something\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert programs.calls == ["make test", "make e2e"]
    assert done.returncode == (2 if test or e2e else 0)
    assert done.stdout.splitlines()[-1] == "=== 30 passed ==="
