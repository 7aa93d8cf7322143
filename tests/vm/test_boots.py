"""A pod that was booted cold and a clone pass the same scenarios (`pytest tests/vm --host auto`).

The scenarios in `boots` are those of the catalogue. Of each boot one pod has them all: `vsock-harness run
--boot cold` gives each a cold pod of its own, and takes as long.
"""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
import pytest

from harness.host.speed import slowness
from harness.judge import judge
from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.model.plan import Boot, Plan
from harness.model.scenario import load
from harness.model.verdict import Verdict
from harness.plugin.fixtures import Pods
from harness.run.coordinator import run_plan
from harness.run.greeting import drain
from harness.run.nursery import Nursery
from harness.run.pod import Pod
from harness.run.tracefile import write_trace

pytestmark = pytest.mark.vm

PLANS = (
    ("multiple-clients-8", Link.VSOCK),
    ("multiple-clients-refused", Link.VSOCK),
    ("pod-diagram", Link.VSOCK),
    ("pod-diagram", Link.SERIAL_PROXY),
    ("reliability-half-close", Link.VSOCK),
    ("serial-second-client", Link.VIRTIO_SERIAL),
    ("serial-second-opener", Link.VIRTIO_SERIAL),
    ("serial-second-opener", Link.VIRTCONSOLE),
    ("serial-stale-reply", Link.ISA_SERIAL),
)


def test_cold_pods_and_clones_pass_the_same_scenarios(pods: Pods) -> None:
    plans = [
        load(Path(__file__).parent / "boots" / f"{name}.yaml")
        .for_link(link)
        .on_kernel(platform.release(), pods.place.guest.manifest.kernel)
        for name, link in PLANS
    ]
    links = dict.fromkeys(link for _, link in PLANS)
    seen: dict[Boot, list[Verdict]] = {}
    with Nursery() as nursery:
        for boot, made in ((Boot.COLD, pods.boot), (Boot.CLONE, pods.clone)):
            pod = made(*links)
            seen[boot] = [verdict(pods, pod, msgspec.structs.replace(p, boot=boot), nursery) for p in plans]
            pods.run(pod.check())
            pods.close()
    assert [v.difference for v in seen[Boot.COLD]] == [""] * len(PLANS)
    for cold, clone in zip(seen[Boot.COLD], seen[Boot.CLONE], strict=True):
        assert told(cold) == told(clone)


def verdict(pods: Pods, pod: Pod, plan: Plan, nursery: Nursery) -> Verdict:
    """What `plan` shows on a pod that plans before it have used."""
    endpoint = pod.endpoint(plan.link)
    drain(endpoint)
    deadline = Deadline(60 * slowness())
    trace = pods.run(run_plan(plan, endpoint, deadline=deadline, slowness=slowness(), nursery=nursery))
    write_trace(pods.folder / f"{plan.boot}-{plan.scenario}-{plan.link}.jsonl", trace)
    return judge(plan, trace)


def told(verdict: Verdict) -> tuple[object, ...]:
    """What of it is no matter of chance: not who of several was first, and when."""
    words = sorted((end.end, end.intact, sorted(end.facts.items())) for end in verdict.ends)
    return verdict.row, verdict.differences, words
