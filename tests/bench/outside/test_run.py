"""A whole `vsock-harness run` by phase; in a lab that is restored against one that is booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.inside.figures import Figures
from tests.bench.outside import watched

pytestmark = pytest.mark.vm

SCENARIO, LINK = "scenarios/multiple-clients-8.yaml", "vsock"


def test_run_by_phase(figures: Figures, folder: Path, request: pytest.FixtureRequest, round: int) -> None:
    host = request.config.getoption("bench_host")
    ways = {"restored": [], "booted": ["--fresh-lab"]} if host in ("lab", "auto") else {host: []}
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
