"""N pods with M clients each: connects a second, round trips, throughput both ways, on each link."""

from __future__ import annotations

import time

import pytest

from harness.model.link import Link
from harness.plugin.fixtures import Pods

from . import storm
from .figures import Condition, Figures
from .test_memory import pss_mib

pytestmark = pytest.mark.vm

SIZES = {Link.ISA_SERIAL: 8 << 10, Link.VIRTCONSOLE: 32 << 10}
"""Bytes each way, of slow links."""


@pytest.mark.parametrize(
    ("link", "count", "clients"),
    [
        *((Link.VSOCK, count, clients) for count, clients in [(1, 1), (1, 8), (4, 8)]),
        *((link, 1, 1) for link in Link if link.is_serial_port),
        (Link.SERIAL_PROXY, 1, 8),
        *((Link.HYBRID_VSOCK, count, clients) for count, clients in [(1, 1), (1, 8), (4, 8)]),
    ],
)
def test_clients(pods: Pods, figures: Figures, rounds: int, link: Link, count: int, clients: int) -> None:
    running = [pods.clone(link) for _ in range(count)]
    size = SIZES.get(link, (4 << 20) // (count * clients))
    endpoints = tuple(pod.endpoint(link) for pod in running)
    under: dict[str, Condition] = {"link": link.value, "pods": count, "clients each": clients}
    for _ in range(rounds):
        outcome = storm.run(storm.Wish(endpoints, clients, pings=50, size=size))
        assert not outcome.errors
        assert outcome.intact == count * clients
        figures.add("connects", "", count * clients / outcome.span("connect"), "/s", conditions=under)
        trips = outcome.trips
        figures.add("round trip", "p50", trips[len(trips) // 2] * 1000, "ms", conditions=under)
        figures.add("round trip", "p99", trips[len(trips) * 99 // 100] * 1000, "ms", conditions=under)
        for phase, way in (("send", "host to guest"), ("receive", "guest to host")):
            rate = count * clients * size / outcome.span(phase) / 1e6
            figures.add("throughput of all", way, rate, "MB/s", conditions=under)


def test_twenty_pods(pods: Pods, figures: Figures) -> None:
    pods.clone(Link.VSOCK)  # makes the template, if it isn't there yet
    pods.close()
    begun = time.monotonic()
    running = [pods.clone(Link.VSOCK) for _ in range(20)]
    figures.add("20 pods at once: all up", "", time.monotonic() - begun, "s")
    each = [pss_mib(pod.machine.pid) for pod in running]
    figures.add("20 pods at once: memory of all QEMUs (PSS)", "", sum(each), "MiB")
    wish = storm.Wish(tuple(pod.endpoint(Link.VSOCK) for pod in running), 8, pings=5, size=256 << 10)
    begun = time.monotonic()
    outcome = storm.run(wish)
    figures.add("20 pods at once: 8 clients each do their work", "", time.monotonic() - begun, "s")
    figures.add("clients intact of 20 pods at once", "", outcome.intact, "clients")
    assert not outcome.errors
    assert outcome.intact == 160
