"""Pods cloned, used and ended one after the other, and nothing that grows: `make lifecycles N=500`."""

from __future__ import annotations

import random
import shutil
import time

import pytest

from harness.model.link import Link
from harness.plugin.fixtures import Pods

from .figures import Figures
from .held import held, memory_mib
from .using import use

pytestmark = [pytest.mark.vm, pytest.mark.lifecycles]

MOST_MIB = {"PSS of the worker": 8.0, "kernel slabs": 32.0}
"""By how much memory may differ from what it was at first, however many pods follow."""

SETTLED = 6
"""Tens of pods after which memory is at first measured: until then a worker that was forked from an
interpreter that has imported copies, in steps, 8 to 10 MiB that both shared. So fewer than 70 pods say
nothing of memory, and the table then has no row of it."""

first: dict[str, float] = {}
"""What was held at first: of counts after ten pods, when all that is made once is there."""


def test_ten_lifecycles(pods: Pods, figures: Figures, ten: int) -> None:
    chance = random.Random(ten)
    for _ in range(10):
        begun = time.monotonic()
        pod = pods.clone(Link.VSOCK)
        use(pod.endpoint(Link.VSOCK), chance)
        pods.close()
        if pod.seconds["template"] < 1:
            figures.add("lifecycle of a pod", "", time.monotonic() - begun, "s")
    for path in pods.folder.glob("pod-*"):  # the evidence of pods that were well
        shutil.rmtree(path)
    counts, memory = held(pods.place.folder.path, pods.place.templates.root), memory_mib()
    first.update({name: value for name, value in counts.items() if name not in first})
    if ten >= SETTLED:
        first.update({name: value for name, value in memory.items() if name not in first})
    growth = {name: value - first[name] for name, value in {**counts, **memory}.items() if name in first}
    for name, value in growth.items():
        unit = "MiB" if name in memory else ""
        figures.add("growth since the first ten lifecycles", name, value, unit)
    assert not any(growth[name] for name in counts), growth
    assert all(growth[name] <= MOST_MIB[name] for name in memory if name in growth), growth
