"""The template of a guest that boots slowly, made before the first item would wait for it without a word.

On hosts that are not this machine it is run as ``python3 -m harness.plugin.ahead GUEST SETTING``.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import msgspec
import pytest

from harness.host.speed import slowness
from harness.image import recipe
from harness.lab import deploy
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit
from harness.model.progress import Progress, Silent
from harness.plugin import hosts, options
from harness.plugin.bench import RESULTS, Bench, Setting
from harness.plugin.together import all_at_once
from harness.run import templates
from harness.run.place import Place

_SECONDS = 600.0
"""On another host, which may be emulated; multiplied by this machine's slowness."""


def made(config: pytest.Config, progress: Progress) -> None:
    """Have the template of the run's guest, on this machine, if that is a distribution's own.

    :raise HarnessError: it can't be made.
    """
    guest = options.guest(config)
    if _is_slow(guest):
        _make(guest, Setting(config.stash[RESULTS]), progress)


def made_there(config: pytest.Config, fleet: hosts.Fleet, progress: Progress) -> None:
    """The same on other hosts, all at once, but for labs that were saved with it.

    :raise HarnessError: it can't be made.
    """
    guest = options.guest(config)
    without = [alias for alias, remote in fleet.remotes.items() if not remote.warm]
    if not _is_slow(guest) or not without:
        return
    with progress.stage(f"guest {guest}: booting it once on {', '.join(without)}, the agent comes by SSH"):
        all_at_once(without, lambda alias: _ask(fleet.remotes[alias], guest))


def _is_slow(guest: str) -> bool:
    return recipe.load(guest).kind == "distribution"


def _ask(remote: deploy.Remote, guest: str) -> None:
    layout = remote.layout
    setting = Setting(str(layout.results), str(layout.images), remote.accel.value if remote.accel else "")
    words = ["python3", "-P", "-m", "harness.plugin.ahead", guest, msgspec.json.encode(setting).decode()]
    environment = {"PYTHONPATH": f"{layout.site}:{layout.code}"}
    remote.ssh.run(words, env=environment, deadline=Deadline(_SECONDS * slowness()))


def _make(guest: str, setting: Setting, progress: Progress) -> None:
    """A machine that can run no pods is not told of here: each item says so."""
    with contextlib.closing(Bench(setting, (), guest)) as bench:
        try:
            place = bench.place
        except HostUnfit:
            return
        if not templates.is_there(place):
            with progress.stage(f"guest {guest}: booting it once, the agent comes by SSH"):
                bench.runner.run(_template(place, Path(setting.results) / "template"))


async def _template(place: Place, logs: Path) -> None:
    async with templates.held(place, logs):
        pass


def main(argv: list[str]) -> int:
    """Make it on this host, which another one asks.

    :raise HarnessError: it can't be made.
    """
    guest, setting = argv
    _make(guest, msgspec.json.decode(setting, type=Setting), Silent())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
