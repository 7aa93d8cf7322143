"""Bytes per second on vsock: our client and agent against socat, between the same two ends, alternately.

Ours carries seeded data that both ends generate, frame, check by CRC and compare; socat carries zeros.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness.guest.client import AgentClient
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.plugin.fixtures import Pods

from . import socat
from .figures import Figures

pytestmark = pytest.mark.vm

TOTAL = 16 << 20
CHUNK = 1 << 20
SOCATS_OWN = 8192
"""What socat moves at a time unless told otherwise."""


def test_throughput(pods: Pods, figures: Figures, round: int) -> None:
    pod = pods.clone(Link.VSOCK)
    endpoint = pod.endpoint(Link.VSOCK)
    assert endpoint.cid is not None
    cid = endpoint.cid
    with AgentClient(connect(endpoint)) as helper, AgentClient(connect(endpoint), chunk=CHUNK) as agent:
        try:
            socat.send(helper)
        except socat.NoSocat as error:
            pytest.skip(str(error))
        for move in (
            agent.send,
            agent.receive,
        ):  # what is touched for the first time costs a clone a page fault
            move(0, TOTAL // 2, deadline=soon())
        socat.to_guest(helper, cid, TOTAL // 2, CHUNK)
        ways: dict[str, dict[str, Callable[[], float]]] = {
            "host to guest": {
                "ours": lambda: timed(lambda: agent.send(round, TOTAL, deadline=soon())),
                "socat": lambda: socat.to_guest(helper, cid, TOTAL, CHUNK),
                "socat, 8 KiB": lambda: socat.to_guest(helper, cid, TOTAL, SOCATS_OWN),
            },
            "guest to host": {
                "ours": lambda: timed(lambda: agent.receive(round, TOTAL, deadline=soon())),
                "socat": lambda: socat.from_guest(helper, cid, TOTAL, CHUNK),
                "socat, 8 KiB": lambda: socat.from_guest(helper, cid, TOTAL, SOCATS_OWN),
            },
        }
        for way, measures in ways.items():
            for subject in list(measures)[:: 1 if round % 2 else -1]:
                rate = TOTAL / measures[subject]() / 1e6
                figures.add(
                    f"throughput, {way}",
                    subject,
                    rate,
                    "MB/s",
                    pair=str(round),
                    conditions={"chunk": "1 MiB"},
                )


def timed(do: Callable[[], None]) -> float:
    begun = time.monotonic()
    do()
    return time.monotonic() - begun


def soon() -> Deadline:
    return Deadline(120 * slowness())
