"""The proxy beside a real pod: what its clients see when it dies, and that the port serves the next one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.client import AgentClient, ConnectionLost, Facts
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.link import Endpoint, Link
from harness.plugin.fixtures import Pods
from harness.run.pod import Pod
from harness.run.proxy import Proxy, beside

pytestmark = pytest.mark.vm


def soon() -> Deadline:
    return Deadline(10 * slowness())


@contextlib.contextmanager
def client(endpoint: Endpoint) -> Iterator[AgentClient]:
    with AgentClient(connect(endpoint)) as agent:
        yield agent


def kill(proxy: Proxy, pods: Pods) -> None:
    proxy.allow_end()
    os.kill(proxy.pid, signal.SIGKILL)
    pods.run(proxy.ended())


def another(pod: Pod, pods: Pods) -> Proxy:
    """A further proxy on the same port, that listens."""
    folder = pods.folder / "another"
    folder.mkdir(exist_ok=True)
    made = pods.enter(beside(pod.machine, pods.place.proxy, pods.place.folder, folder))
    until(lambda: Path(str(made.endpoint.path)).exists() or None, soon(), "the proxy's socket")
    return made


def facts(endpoint: Endpoint) -> Facts:
    with client(endpoint) as agent:
        return agent.facts(deadline=soon())


def test_a_cold_pod_is_greeted_through_its_proxy(pods: Pods) -> None:
    pod = pods.boot(Link.SERIAL_PROXY)
    assert pod.hello.channel.startswith("/dev/vport")
    assert pod.proxy is not None
    with client(pod.endpoint(Link.SERIAL_PROXY)) as agent:
        agent.echo(os.urandom(1 << 20), deadline=soon())
        assert agent.open_device(deadline=soon()) == "EBUSY"


def test_a_pod_without_the_link_has_no_process_for_it(pods: Pods) -> None:
    pod = pods.clone(Link.VIRTIO_SERIAL)
    assert pod.proxy is None
    assert not (pods.folder / "pod-1" / "proxy.log").exists()


def test_a_killed_proxy_loses_its_clients_and_their_containers_and_the_next_one_serves(pods: Pods) -> None:
    pod = pods.clone(Link.SERIAL_PROXY)
    endpoint, other = pod.endpoint(Link.SERIAL_PROXY), pod.endpoint(Link.VIRTIO_SERIAL)
    assert pod.proxy is not None
    with client(endpoint) as idle, client(endpoint) as reading:
        idle.start(["sleep", "1000"], deadline=soon())
        reading.start(["sleep", "1000"], deadline=soon())
        reading.receive(1, 64 << 20, stop_after=1 << 20, deadline=soon())
        assert facts(other).containers == 2
        kill(pod.proxy, pods)
        for lost in (idle, reading):
            with pytest.raises(ConnectionLost):
                lost.receive(1, 1 << 30, deadline=soon())
    with client(other) as agent:
        until(lambda: agent.facts(deadline=soon()).containers == 0 or None, soon(), "the containers' end")
    with client(another(pod, pods).endpoint) as agent:
        assert agent.hello(deadline=soon()).boot_id == pod.hello.boot_id
        agent.echo(os.urandom(1 << 20), deadline=soon())


def test_a_proxy_follows_at_once(pods: Pods) -> None:
    """Then the agent may not see that the first one left; it knows the next one by its first stream."""
    pod = pods.clone(Link.SERIAL_PROXY)
    proxy = pod.proxy
    assert proxy is not None
    for _ in range(5):
        with client(proxy.endpoint) as agent:
            agent.start(["sleep", "1000"], deadline=soon())
            kill(proxy, pods)
        proxy = another(pod, pods)
        with client(proxy.endpoint) as agent:
            until(lambda: agent.facts(deadline=soon()).containers == 0 or None, soon(), "the container's end")


def test_a_proxy_ends_with_its_vm(pods: Pods) -> None:
    pod = pods.clone(Link.SERIAL_PROXY)
    assert pod.proxy is not None
    pods.run(pod.machine.kill())
    pods.run(pod.proxy.ended())
    pods.run(pod.check())
