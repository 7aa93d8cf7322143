"""Bytes per second: our client and agent against socat, between the same two ends, alternately.

Ours carries seeded data that both ends generate, frame, check by CRC and compare; socat carries zeros.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.guest.client import AgentClient
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run.client import FRAMES
from harness.run.pod import Pod
from harness.run.serving import SPARE
from harness.vm.ports import plug_port, wire_spare_port

from . import socat
from .figures import Condition, Figures

pytestmark = pytest.mark.vm

TOTAL = 16 << 20
CHUNK = 1 << 20
SERIAL_TOTALS = {Link.VIRTIO_SERIAL: 4 << 20, Link.ISA_SERIAL: 8 << 10}
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


@pytest.mark.parametrize("link", [Link.VIRTIO_SERIAL, Link.ISA_SERIAL])
def test_serial_throughput(pods: Pods, figures: Figures, round: int, link: Link) -> None:
    """Ours on the agent's port; socat on another one of the same bus, which the agent does not have."""
    pod = pods.clone(Link.VSOCK, link)
    total = SERIAL_TOTALS[link]
    chunk, window = FRAMES.get(link, (64 << 10, 1 << 20))
    with (
        AgentClient(connect(pod.endpoint(Link.VSOCK))) as helper,
        AgentClient(connect(pod.endpoint(link)), chunk=chunk, window=window) as agent,
    ):
        try:
            socat.send(helper)
        except socat.NoSocat as error:
            pytest.skip(str(error))
        port = pods.run(another_port(pods, pod, link, helper))
        ways: dict[str, dict[str, Callable[[], float]]] = {
            "host to guest": {
                "ours": lambda: timed(lambda: agent.send(round, total, deadline=soon())),
                "socat": lambda: socat.to_port(helper, port, total, chunk),
            },
            "guest to host": {
                "ours": lambda: timed(lambda: agent.receive(round, total, deadline=soon())),
                "socat": lambda: socat.from_port(helper, port, total, chunk),
            },
        }
        under: dict[str, Condition] = {"link": link.value, "chunk": f"{chunk >> 10} KiB"}
        for way, measures in ways.items():
            for measure in measures.values():  # what is touched for the first time costs a clone a page fault
                measure()
            for subject in list(measures)[:: 1 if round % 2 else -1]:
                rate = total / measures[subject]() / 1e6
                figures.add(
                    f"throughput of a serial port, {way}",
                    subject,
                    rate,
                    "MB/s",
                    pair=str(round),
                    conditions=under,
                )


async def another_port(pods: Pods, pod: Pod, link: Link, helper: AgentClient) -> socat.Port:
    path = pods.place.folder.socket(f"socat-{link}")
    if link is Link.ISA_SERIAL:
        await wire_spare_port(pod.machine.monitor, path, soon())
        return socat.Port(SPARE, path, is_tty=True)
    await plug_port(pod.machine.monitor, "socat", path, soon())
    find = ["sh", "-c", "grep -l '^socat$' /sys/class/virtio-ports/*/name"]
    found = until(lambda: helper.run(find, deadline=soon()).stdout.decode().strip(), soon(), "the port")
    return socat.Port(f"/dev/{Path(found).parent.name}", path, is_tty=False)


def timed(do: Callable[[], None]) -> float:
    begun = time.monotonic()
    do()
    return time.monotonic() - begun


def soon() -> Deadline:
    return Deadline(120 * slowness())
