"""What a scenario file can't say of the claim reliability: the same fault again and again, to one guest."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.host.speed import measure
from harness.judge import judge
from harness.model.deadline import Deadline
from harness.model.factwords import NOTHING
from harness.model.link import Link
from harness.model.scenario import load
from harness.model.trace import What
from harness.plugin.fixtures import Pods
from harness.run import record
from harness.run.coordinator import run_plan
from harness.run.faults import PodFault, copying
from harness.run.nursery import Nursery
from harness.run.pod import Pod

RESTORES = 5


@pytest.mark.claim("reliability", link="vsock")
@pytest.mark.long
def test_restored_again_and_again(pods: Pods, record_property: Callable[[str, object], None]) -> None:
    """One guest is moved to a restored copy five times, its clients idle, sending, receiving, connecting."""
    plan = load(Path(__file__).with_name("reliability-restored.yaml")).for_link(Link.VSOCK)
    plan = plan.on_kernel(platform.release(), pods.place.guest.manifest.kernel)
    record_property("expected", f"{RESTORES} restores, each as in reliability-restored")
    noticed: list[float] = []

    beside = pods.clone(Link.VSOCK).endpoint(Link.VSOCK)

    async def restore(pod: Pod, stack: contextlib.AsyncExitStack, nursery: Nursery, done: int) -> Pod:
        slowness = measure()  # as before each item: minutes lie between the first and the last
        here = plan.stretched(slowness)
        fault = PodFault.prepared(plan, pod, slowness, copying(pods.place, pod, pods.folder))
        deed = await stack.enter_async_context(fault)
        assert deed is not None
        trace = await run_plan(
            here,
            pod.endpoint(Link.VSOCK),
            deadline=Deadline(60 * slowness),
            slowness=slowness,
            nursery=nursery,
            deed=deed,
            elsewhere=beside,
        )
        verdict = judge(here, trace)
        about = record.facts(pods.place, plan.link, pod.hello, pod.qemu, pod.seconds, slowness)
        record.write(pods.folder / f"restore-{done + 1}", here, trace, verdict, about)
        if verdict.differences:
            record_property("seen", f"{done} restores, then {verdict.difference}")
        assert verdict.differences == ()
        told = [event.detail for event in trace if event.what is What.NOTICED]
        noticed.extend(float(detail["seconds"] or 0) for detail in told if detail["sees"] != NOTHING)
        return msgspec.structs.replace(pod, machine=deed.machine)

    async def all_of_them(pod: Pod) -> None:
        async with contextlib.AsyncExitStack() as stack:
            with Nursery() as nursery:
                for done in range(RESTORES):
                    record_property("seen", f"{done} restores, then something else")
                    pod = await restore(pod, stack, nursery, done)

    pods.run(all_of_them(pods.clone(Link.VSOCK, Link.VIRTIO_SERIAL, own_memory=True)))
    record_property(
        "seen", f"{RESTORES} restores; the end was seen after {min(noticed):.2f} to {max(noticed):.2f} s"
    )
