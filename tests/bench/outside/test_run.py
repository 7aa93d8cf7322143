"""A whole `vsock-harness run` by phase; in a lab that is restored against one that is booted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from harness.host.paths import cache_root
from harness.image.store import Store
from harness.model.progress import Silent
from harness.plugin import hosts
from tests.bench.inside.figures import Figures
from tests.bench.outside import watched

pytestmark = pytest.mark.vm

SCENARIO, LINK = "scenarios/multiple-clients-8.yaml", "vsock"


def test_run_by_phase(figures: Figures, folder: Path, request: pytest.FixtureRequest, round: int) -> None:
    wanted = request.config.getoption("bench_host")
    host = wanted if wanted.startswith("ssh://") else hosts.choose(wanted, Store(cache_root()), Silent()).kind
    ways = {"restored": [], "booted": ["--fresh-lab"]} if host == "lab" else {host: []}
    for subject in list(ways)[:: 1 if round % 2 else -1]:
        words = ["--host", host, *ways[subject]]
        seen = watched.run(SCENARIO, LINK, folder / subject, *words)
        if seen.saved:  # the first on this machine, or since the harness changed
            figures.add("run that saves a lab for later ones", "", seen.whole, "s")
            seen = watched.run(SCENARIO, LINK, folder / f"{subject}-again", *words)
        figures.add("whole run", subject, seen.whole, "s", pair=str(round))
        if seen.lab:
            figures.add("lab ready", subject, seen.lab, "s", pair=str(round))
        for phase, seconds in seen.phases.items():
            figures.add("run by phase", f"{subject}: {phase}", seconds, "s")


def test_e2e(figures: Figures, folder: Path, request: pytest.FixtureRequest) -> None:
    """What `make e2e` runs, from command to prompt; on a machine that has a saved lab, if it needs one."""
    host = request.config.getoption("bench_host")
    argv = ["run", "scenarios", "-m", "not long", "--host", host, "--results", str(folder)]
    begun = time.monotonic()
    code = subprocess.run([*watched.COMMAND, *argv], cwd=watched.ROOT, check=False).returncode
    figures.add("make e2e", "", time.monotonic() - begun, "s")
    assert code == 0
