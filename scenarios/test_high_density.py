"""What a multiplexing proxy costs in memory, and that vsock needs nothing in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from harness.guest.client import AgentClient
from harness.host import memory
from harness.host.speed import slowness
from harness.judge import density as judge
from harness.judge.density import MB
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit
from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run import density
from harness.run.dialled import dialled

pytestmark = pytest.mark.vm

Record = Callable[[str, object], None]


@pytest.mark.claim("high-density", link="serial-proxy")
@pytest.mark.long
def test_a_proxy_costs_memory_in_each_pod(
    pods: Pods, record_property: Record, request: pytest.FixtureRequest
) -> None:
    """Memory of each further pod, with a proxy and without"""
    try:
        found = pods.run(density.measured(pods.place, pods.folder))
    except HostUnfit as unfit:
        if request.config.option.vsock_strict:
            raise
        pytest.skip(f"{unfit.ability}: {unfit.summary}")
    density.write(pods.folder, found)
    verdict = judge.judge(found)
    record_property("expected", judge.EXPECTED)
    record_property("seen", judge.seen(verdict))
    assert not verdict.differences, "\n".join(verdict.differences)


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(Link.VSOCK, marks=pytest.mark.claim("high-density", link="vsock")),
        pytest.param(
            Link.HYBRID_VSOCK,
            marks=[pytest.mark.claim("high-density", link="hybrid-vsock"), pytest.mark.long],
        ),
    ],
)
def test_no_proxy_serves_ten_clients(link: Link, pods: Pods, record_property: Record) -> None:
    """Ten clients at once, every second one dialled, and which processes of the host serve them"""
    before = memory.processes(pods.place.folder)
    pod = pods.clone(link)
    endpoint = pod.endpoint(link)
    with contextlib.ExitStack() as clients:
        for number in range(density.CLIENTS):
            soon = Deadline(20 * slowness())
            sock = dialled(endpoint, slowness(), soon) if number % 2 else connect(endpoint)
            clients.enter_context(AgentClient(sock)).echo(b"x" * 1000, deadline=soon)
        now = memory.processes(pods.place.folder) - before
        wanted, names = {pod.machine.pid}, "QEMU alone"
        if pod.device:
            wanted.add(pod.device.pid)
            pss = memory.of_process(pod.device.pid).pss / MB
            names = f"QEMU and its vsock device, {pss:.1f} MB PSS"
    record_property("expected", "QEMU alone" if link is Link.VSOCK else "QEMU and its vsock device")
    record_property("seen", names if now == wanted else f"processes {sorted(now)}, not {sorted(wanted)}")
    assert now == wanted
