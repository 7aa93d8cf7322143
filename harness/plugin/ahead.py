"""The template of a guest that boots slowly, made before the first item would wait for it without a word."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from harness.image import recipe
from harness.model.errors import HostUnfit
from harness.model.progress import Progress
from harness.plugin import options
from harness.plugin.bench import RESULTS, Bench, Setting
from harness.run import templates
from harness.run.place import Place


def made(config: pytest.Config, progress: Progress) -> None:
    """Have the template of the run's guest, on this machine, if that is a distribution's own.

    A machine that can run no pods is not told of here: each item says so.

    :raise HarnessError: it can't be made.
    """
    name = options.guest(config)
    if recipe.load(name).kind != "distribution":
        return
    results = Path(config.stash[RESULTS])
    with contextlib.closing(Bench(Setting(str(results)), (), name)) as bench:
        try:
            place = bench.place
        except HostUnfit:
            return
        if not templates.is_there(place):
            with progress.stage(f"guest {name}: booting it once, the agent comes by SSH"):
                bench.runner.run(_template(place, results / "template"))


async def _template(place: Place, logs: Path) -> None:
    async with templates.held(place, logs):
        pass
