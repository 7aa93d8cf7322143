"""Real pods under KVM with the kernel's vhost_vsock, where pods run (`pytest tests/vm --host auto`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.client import AgentClient, ConnectionLost
from harness.host.cid import DEVICE, VHOST_VSOCK_SET_GUEST_CID, CidLease
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import GuestCrashed
from harness.model.link import Endpoint, Link
from harness.plugin.fixtures import Pods
from harness.run.greeting import greet
from harness.run.pod import Pod

pytestmark = pytest.mark.vm

RESEEDED = b"crng reseeded due to virtual machine fork"
"""What Linux logs then (add_vmfork_randomness in drivers/char/random.c)."""

TOGETHER = [link for link in Link if link is not Link.HYBRID_VSOCK]
"""All that one pod can have: hybrid-vsock would be its second vsock device."""


@contextlib.contextmanager
def client(pod: Pod, link: Link) -> Iterator[AgentClient]:
    with connect(pod.endpoint(link)) as sock:
        yield AgentClient(sock)


def transcript(pods: Pods, name: str) -> list[dict[str, object]]:
    lines = (pods.folder / name / "qmp.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_cold_pod_has_its_vsock_device_on_the_command_line_under_kvm(pods: Pods) -> None:
    pod = pods.boot(Link.VSOCK)
    words = (pods.folder / "pod-1" / "qemu.cmdline").read_text()
    assert f"vhost-vsock-pci,id=vsock0,guest-cid={pod.endpoint(Link.VSOCK).cid}" in words
    assert "vhostfd=" in words
    assert "-accel" in words.split()
    assert "kvm" in words.split()
    with client(pod, Link.VSOCK) as agent:
        agent.echo(os.urandom(256 * 1024))


def test_a_clone_has_its_own_cid_and_answers_as_a_cold_pod_does(pods: Pods) -> None:
    cold, clone = pods.boot(Link.VSOCK), pods.clone(Link.VSOCK)
    words = (pods.folder / "pod-2" / "qemu.cmdline").read_text()
    assert f"bus=hotplug0,guest-cid={clone.endpoint(Link.VSOCK).cid}" in words
    assert not [line for line in transcript(pods, "pod-2") if "device_add" in json.dumps(line)]
    assert (cold.hello.agent, cold.hello.kernel) == (clone.hello.agent, clone.hello.kernel)
    assert cold.hello.channel == clone.hello.channel == "vsock"
    with client(cold, Link.VSOCK) as one, client(clone, Link.VSOCK) as other:
        for agent in (one, other):
            agent.echo(os.urandom(100_000))
            done = agent.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
            assert (done.stdout, done.stderr, done.code) == (b"in", b"err\n", 3)


def test_clones_share_no_cid_and_no_random_numbers(pods: Pods) -> None:
    one, other = pods.clone(Link.VSOCK), pods.clone(Link.VSOCK)
    assert one.endpoint(Link.VSOCK).cid != other.endpoint(Link.VSOCK).cid
    drawn = []
    for pod in (one, other):
        with client(pod, Link.VSOCK) as agent:
            drawn.append(agent.run(["dd", "if=/dev/urandom", "bs=32", "count=1"]).stdout)
    assert len(drawn[0]) == 32
    assert drawn[0] != drawn[1]


def test_a_clones_kernel_reseeds_its_random_numbers(pods: Pods) -> None:
    """By its new vmgenid: else two clones draw the same until the next seed."""
    with client(pods.boot(Link.VSOCK), Link.VSOCK) as agent:
        assert RESEEDED not in agent.run(["dmesg"]).stdout
    with client(pods.clone(Link.VSOCK), Link.VSOCK) as agent:
        until(
            lambda: RESEEDED in agent.run(["dmesg"]).stdout,
            Deadline(10 * slowness()),
            "the kernel's new seed",
        )


def test_clones_have_a_boot_id_and_a_clock_of_their_own(pods: Pods) -> None:
    one, other = pods.clone(Link.VSOCK), pods.clone(Link.VIRTIO_SERIAL)
    assert one.hello.boot_id != other.hello.boot_id
    for pod, link in ((one, Link.VSOCK), (other, Link.VIRTIO_SERIAL)):
        with client(pod, link) as agent:
            # as every process there sees them, not just the agent
            done = agent.run(["sh", "-c", "cat /proc/sys/kernel/random/boot_id; date +%s"])
            boot_id, seconds = done.stdout.decode().split()
            assert boot_id == pod.hello.boot_id
            assert abs(int(seconds) - time.time()) < 10 * slowness()


@pytest.mark.parametrize("part", ["state", "ram"])
def test_a_template_that_does_not_restore_or_answer_is_made_again(pods: Pods, part: str) -> None:
    pods.clone(Link.VSOCK)
    pods.close()  # what is cut would be gone from its memory as well
    (kept,) = pods.place.templates.kept()
    file = kept.path / "vsock" / part
    size = file.stat().st_size
    os.truncate(file, size // 2)
    if part == "ram":  # as long as it was, half of it zeros: what a power cut may leave
        os.truncate(file, size)
    cut = file.stat().st_mtime_ns
    pods.clone(Link.VSOCK)
    assert file.stat().st_mtime_ns != cut
    assert (pods.folder / "pod-2/not-restored/qemu.cmdline").exists()


def test_one_agent_answers_on_every_link_of_a_clone(pods: Pods) -> None:
    pod = pods.clone(*TOGETHER)
    channels = set()
    for link in TOGETHER:
        channels.add(pods.run(greet(pod.machine, link, pods.place.agent, pod.proxy)).channel)
    assert len(channels) == len(TOGETHER)


def test_a_held_cid_is_refused_to_others(pods: Pods) -> None:
    cid = pods.clone(Link.VSOCK).endpoint(Link.VSOCK).cid
    assert cid is not None
    with DEVICE.open("rb") as device, pytest.raises(OSError) as refused:
        fcntl.ioctl(device, VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))
    assert refused.value.errno == errno.EADDRINUSE


def test_vsock_unplugged_and_plugged_again_with_another_cid(pods: Pods) -> None:
    pod = pods.clone(Link.VSOCK)
    before = pod.endpoint(Link.VSOCK)
    pods.run(pod.machine.unplug_vsock(Deadline(30 * slowness())))
    with pytest.raises(OSError, match="No such device"):
        connect(before)
    with CidLease.claim() as lease:
        pods.run(pod.machine.plug_vsock(lease))
        assert pods.run(greet(pod.machine, Link.VSOCK, pods.place.agent)).boot_id == pod.hello.boot_id


def test_a_guest_panic_is_a_failure_that_quotes_the_kernel(pods: Pods) -> None:
    pod = pods.clone(Link.VSOCK)
    script = "read go; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"
    with client(pod, Link.VSOCK) as agent:
        agent.start(["sh", "-c", script]).write_stdin(b"go\n")
        assert "panic" in pods.run(_end(pod))
    with pytest.raises(GuestCrashed) as crashed:
        pods.close()
    assert "sysrq" in crashed.value.detail


async def _end(pod: Pod) -> str:
    return (await asyncio.wait_for(pod.machine.died, 20 * slowness())).text


def test_a_killed_qemu_resets_its_clients_and_frees_the_cid(pods: Pods) -> None:
    pod = pods.clone(Link.VSOCK)
    endpoint = pod.endpoint(Link.VSOCK)
    with client(pod, Link.VSOCK) as agent:
        agent.hello()
        pods.run(pod.machine.kill())
        with pytest.raises(ConnectionLost) as lost:
            agent.hello(deadline=Deadline(10 * slowness()))
    assert lost.value.why in ("ECONNRESET", "EPIPE", "eof")
    with pytest.raises(OSError, match="No such device"):
        connect(endpoint)


def test_containers_end_with_their_clients_connection(pods: Pods) -> None:
    pod = pods.clone(Link.VSOCK)
    with client(pod, Link.VSOCK) as watcher:
        with client(pod, Link.VSOCK) as owner:
            owner.start(["sleep", "1000"])
            assert watcher.facts().containers == 1
        until(lambda: watcher.facts().containers == 0, Deadline(10 * slowness()), "the container's end")


def test_a_port_nobody_listens_on_is_refused_at_once(pods: Pods) -> None:
    pod = pods.clone(Link.VSOCK)
    cid = pod.endpoint(Link.VSOCK).cid
    with pytest.raises(ConnectionResetError):
        connect(Endpoint(link=Link.VSOCK, cid=cid, port=4242))


def test_ending_a_pod_leaves_no_process_and_no_socket(pods: Pods) -> None:
    folder = pods.place.folder.path
    pods.clone(Link.VSOCK)
    pods.close()  # the template is there now
    before = left(folder)
    pod = pods.clone(*TOGETHER)
    assert str(pod.machine.pid) in left(folder) - before
    assert sockets(folder)
    pods.close()
    assert left(folder) == before


def left(folder: Path) -> set[str]:
    """Processes of this run's folder, and what is in it."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.add(path.parent.name)
    return found | sockets(folder)


def sockets(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_socket()}
