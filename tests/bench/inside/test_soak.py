"""Two pods at a time on each host, cloned, used and ended without pause: `make soak MINUTES=30`."""

from __future__ import annotations

import asyncio
import random
import shutil
import time

import pytest

from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run import pod

from .figures import Figures
from .using import use

pytestmark = [pytest.mark.vm, pytest.mark.soak]

AT_ONCE = 2


def test_a_minute(pods: Pods, figures: Figures, minute: int) -> None:
    pods.clone(Link.VSOCK)  # makes the template, if it isn't there yet
    pods.close()
    pods.run(_all(pods, figures, minute))


async def _all(pods: Pods, figures: Figures, minute: int) -> None:
    over = Deadline(60)
    counts = await asyncio.gather(*(_one(pods, figures, f"{minute}-{n}", over) for n in range(AT_ONCE)))
    figures.add("pods in a minute of soaking", "", sum(counts), "pods")


async def _one(pods: Pods, figures: Figures, name: str, over: Deadline) -> int:
    """One pod after the other until the minute is over; how many."""
    chance = random.Random(name)
    count = 0
    while not over.expired:
        begun = time.monotonic()
        folder = pods.folder / f"pod-{name}-{count}"
        async with pod.cloned(pods.place, [Link.VSOCK], folder) as running:
            await asyncio.to_thread(use, running.endpoint(Link.VSOCK), chance)
        shutil.rmtree(folder)  # the evidence of a pod that was well
        figures.add("lifecycle of a pod, two at a time", "", time.monotonic() - begun, "s")
        count += 1
    return count
