"""A distribution's own guest: Debian with systemd and sshd, our agent put into it by SSH, both ways.

``vsock-harness run scenarios -k distribution --with-image debian``; the image is built on demand. All
scenarios run on such a guest with ``--guest debian``, this one too.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from harness.host.speed import slowness
from harness.judge import judge
from harness.model.deadline import Deadline
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.scenario import load
from harness.plugin.fixtures import Pods
from harness.run import distribution, record, sshd
from harness.run.coordinator import run_plan
from harness.run.nursery import Nursery
from harness.run.place import Place, with_guest
from harness.run.pod import Pod

PLANS = (
    ("multiple-clients-8", Link.VSOCK),
    ("serial-portable", Link.VIRTIO_SERIAL),
)
"""What is run on it, to see that the agent works: scenario files beside this one, each on a link."""

BY_NETWORK, BY_VSOCK = PurePosixPath("/opt/by-network"), PurePosixPath("/opt/by-vsock")


def passes(pods: Pods, place: Place, pod: Pod, plan: Plan, nursery: Nursery) -> str:
    """Run a plan on a pod of `place`; "" if it passed, else the first difference."""
    endpoint = pod.endpoint(plan.link)
    deadline = Deadline(60 * slowness())
    running = run_plan(plan, endpoint, deadline=deadline, slowness=slowness(), nursery=nursery)
    trace = pods.run(running)
    verdict = judge(plan, trace)
    facts = record.facts(place, plan.link, pod.hello, pod.qemu, pod.seconds, slowness())
    record.write(pods.folder / f"{plan.scenario}-{plan.link}", plan, trace, verdict, facts)
    pod.machine.check()
    return "" if verdict.passed else f"{plan.scenario}: {verdict.difference}"


@pytest.mark.claim("multiple-clients")
@pytest.mark.long
def test_distribution_guest_by_ssh(pods: Pods, record_property: Callable[[str, object], None]) -> None:
    """Debian with systemd: the agent comes over SSH, by network and by vsock, once each; plans pass on it."""
    image = pods.place.distribution
    if image is None:
        pytest.skip("image debian: was not asked for (--with-image debian)")
    plans = [
        load(Path(__file__).with_name(f"{name}.yaml"))
        .for_link(link)
        .on_kernel(platform.release(), image.manifest.kernel)
        for name, link in PLANS
    ]
    record_property("expected", f"sent once by each way; {len(plans)} plans as on the usual guest")
    place = with_guest(pods.place, image)
    guest = pods.enter(distribution.booted(place, {link for _, link in PLANS}, pods.folder / "debian"))
    with guest.by_network() as ssh:
        sent = [sshd.send(ssh, BY_NETWORK)[1] for _ in range(2)]
    with guest.by_vsock() as ssh:
        sent += [sshd.send(ssh, BY_VSOCK)[1] for _ in range(2)]
        folder, again = sshd.send(ssh, BY_NETWORK)  # as the other way left it
        sshd.start(ssh, folder)
    pod = pods.run(distribution.greeted(guest))
    with Nursery() as nursery:
        different = [words for plan in plans if (words := passes(pods, place, pod, plan, nursery))]
    words = f"files sent {sent} and {again}; {len(plans) - len(different)} of {len(plans)} plans; "
    record_property("seen", f"{words}sshd up after {guest.seconds} s")
    assert sent[0] == sent[2] > 0
    assert sent[1] == sent[3] == again == 0
    assert different == []
