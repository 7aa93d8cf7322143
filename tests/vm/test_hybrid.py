"""Real pods whose vsock device is a process, vhost-device-vsock; with KVM or without (`--host local`)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from harness.guest.client import AgentClient, ConnectionLost
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import SystemFailure, UsageError
from harness.model.link import AGENT_PORT, Link
from harness.plugin.fixtures import Pods
from harness.run.dialled import dialled
from harness.run.pod import Pod

pytestmark = pytest.mark.vm

CHUNK = 15 * 1024


def soon() -> Deadline:
    return Deadline(20 * slowness())


def works(pod: Pod) -> None:
    with connect(pod.endpoint(Link.HYBRID_VSOCK)) as sock:
        agent = AgentClient(sock, chunk=CHUNK)
        assert agent.hello(deadline=soon()).channel == "vsock"
        agent.echo(os.urandom(256 * 1024), deadline=soon())


def test_a_cold_pod_has_it_on_the_command_line(pods: Pods) -> None:
    pod = pods.boot(Link.HYBRID_VSOCK)
    words = (pods.folder / "pod-1/qemu.cmdline").read_text()
    assert "vhost-user-vsock-pci,id=vsock0" in words
    assert "memory-backend-memfd" in words
    works(pod)


def test_clones_have_memory_and_a_device_of_their_own(pods: Pods) -> None:
    one, other = pods.clone(Link.HYBRID_VSOCK), pods.clone(Link.HYBRID_VSOCK)
    assert one.hello.boot_id != other.hello.boot_id
    assert one.endpoint(Link.HYBRID_VSOCK) != other.endpoint(Link.HYBRID_VSOCK)
    works(one)
    works(other)
    pods.close()
    assert one.device
    assert not Path(one.device.sockets.uds).exists()
    assert not list(pods.place.folder.path.glob("*-ram"))


def test_the_guest_connects_to_a_socket_beside_it(pods: Pods) -> None:
    pod = pods.clone(Link.HYBRID_VSOCK)
    with AgentClient(dialled(pod.endpoint(Link.HYBRID_VSOCK), slowness()), chunk=CHUNK) as agent:
        assert agent.hello(deadline=soon()).boot_id == pod.hello.boot_id
        agent.echo(os.urandom(256 * 1024), deadline=soon())


def test_a_port_without_a_listener_ends_the_connection(pods: Pods) -> None:
    endpoint = pods.clone(Link.HYBRID_VSOCK).endpoint(Link.HYBRID_VSOCK)
    other = msgspec.structs.replace(endpoint, port=AGENT_PORT + 1)
    with pytest.raises(ConnectionResetError):
        connect(other, vsock_timeout=20 * slowness())


def test_its_death_ends_its_clients_and_is_told(pods: Pods) -> None:
    pod = pods.clone(Link.HYBRID_VSOCK)
    assert pod.device
    with connect(pod.endpoint(Link.HYBRID_VSOCK)) as sock:
        agent = AgentClient(sock, chunk=CHUNK)
        agent.hello(deadline=soon())
        os.kill(pod.device.pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            agent.hello(deadline=soon())
    pods.run(pod.device.ended())
    with pytest.raises(SystemFailure, match=r"vhost-device-vsock .* ended by itself with -9"):
        pods.run(pod.check())


def test_a_pod_has_one_vsock_device(pods: Pods) -> None:
    with pytest.raises(UsageError, match="one vsock device, not hybrid-vsock and vsock"):
        pods.clone(Link.HYBRID_VSOCK, Link.VSOCK)
