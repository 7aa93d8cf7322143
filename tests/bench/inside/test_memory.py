"""Memory of each further VM: of cold ones, which share nothing but programs, and of clones.

PSS (/proc/PID/smaps_rollup, proc(5)): a page that several processes map counts in equal parts for each. So
the sum over all QEMUs is what they take together, and the template's pages count once, for its clones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host.speed import slowness
from harness.model.deadline import Deadline, until
from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run import templates
from harness.run.pod import Pod

from .figures import Figures

pytestmark = pytest.mark.vm

STEADY = 0.01
"""By how much the sum of PSS may still change, from one look to the next."""

EVERY = 1.0
"""Seconds from one look to the next, on a plain machine."""


def pss_mib(pid: int) -> float:
    """Of a process, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def settled(pods: list[Pod]) -> list[float]:
    """The PSS of each, once the guests are idle: three looks in a row agree."""
    looks: list[float] = []

    def steady() -> list[float] | None:
        each = [pss_mib(pod.machine.pid) for pod in pods]
        looks.append(sum(each))
        calm = len(looks) >= 3 and max(looks[-3:]) - min(looks[-3:]) <= STEADY * looks[-1]
        return each if calm else None

    every = EVERY * min(slowness(), 3)
    return until(steady, Deadline(60 * slowness()), "guests that are idle", every=every)


@pytest.mark.parametrize(("subject", "count"), [("cold", 4), ("clone", 8)])
def test_memory(pods: Pods, figures: Figures, subject: str, count: int) -> None:
    start: Callable[..., Pod] = pods.clone if subject == "clone" else pods.boot
    running: list[Pod] = []
    sums = [0.0]
    for number in range(1, count + 1):
        running.append(start(Link.VSOCK))
        sums.append(sum(settled(running)))
        figures.add("memory of all QEMUs (PSS)", subject, sums[-1], "MiB", conditions={"VMs": number})
        if number > 1:
            further = sums[-1] - sums[-2]
            figures.add("memory of a further VM (PSS)", subject, further, "MiB")
    if subject == "clone":
        saved = pods.enter(templates.held(pods.place, pods.folder / "template", vsock=True))
        blocks = (saved / "ram").stat().st_blocks
        figures.add("memory of the template's RAM file", "", blocks / 2048, "MiB")
