"""Two labs restored from a saved one: what they share, and what time it is there.

Run on the machine itself; one is saved first where there is none.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli.labstatus import pss_mib
from harness.host.paths import cache_root
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image.store import Store
from harness.lab import holder, keys, lab, saved
from harness.lab.ssh import Ssh
from harness.lab.state import OWN_KERNEL
from harness.model.progress import Silent
from harness.run.states import lab_identity

pytestmark = pytest.mark.vm


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[tuple[lab.Lab, Ssh]]]:
    """Both up, with a connection each, and the clock as it was when they were saved."""
    wish = lab.Wish(
        images=holder.images_of(Store(cache_root()), OWN_KERNEL), pair=keys.ensure(cache_root() / "keys")
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder.create())
        held = saved.held(wish, lab_identity(wish), folder, tmp_path / "saved", Silent())
        source = stack.enter_context(held)
        made = []
        for name in ("one", "two"):
            up = lab.up(wish, folder, name=name, log_folder=tmp_path / name, saved=source)
            running = stack.enter_context(up)
            made.append((running, stack.enter_context(Ssh.connect(running.address))))
        yield made


def rss_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) >> 10


def behind(ssh: Ssh) -> float:
    """Seconds that the lab's clock is behind this machine's, give or take the time that asking takes."""
    return time.time() - float(ssh.run(["date", "+%s.%N"]))


def test_two_labs_share_memory_and_have_this_machines_time(
    two: list[tuple[lab.Lab, Ssh]], record_property: Callable[[str, object], None]
) -> None:
    before = [behind(ssh) for _, ssh in two]
    for _, ssh in two:
        lab.set_clock(ssh)
    after = [behind(ssh) for _, ssh in two]
    seen = [(rss_mib(running.pid), pss_mib(running.pid) or 0) for running, _ in two]
    words = f"behind {before} s, then {after} s; RSS and PSS {seen} MiB"
    record_property("seen", words)
    assert all(abs(seconds) < 2 * slowness() for seconds in after), words
    # what both have touched of the saved memory counts half for each: 60 MiB less of 196, and 37 of 143, were
    # seen; of two copies only QEMU's own text would
    assert all(rss - pss > rss / 5 for rss, pss in seen), words
