"""Controls: other people's programs behind the same links tell what a link allows from what an agent does.

nbdkit and sshd serve many over vsock, as our agent does; qemu-guest-agent serves one, even there. So
several clients at once take both: a link that lets them in, and an agent that accepts them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.guest.client import AgentClient, Container
from harness.host.speed import slowness
from harness.lab import keys
from harness.lab.keys import Keys
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.link import Link
from harness.plugin.fixtures import Pods
from harness.run import programs
from harness.run.foreign import Dial, End, Foreign, Talk, crowd, ends, said, started
from harness.run.pod import Pod
from harness.vm.ports import plug_port, wire_spare_port

pytestmark = pytest.mark.long

Record = Callable[[str, object], None]

PORT = 7777
"""Of whatever program is looked at, in a guest of its own."""

SIZE = 1 << 20
"""Bytes of nbdkit's disk: far more than the pipe behind nbdcopy holds (64 KiB), so each copy stands still in
the middle of it."""


def deadline() -> Deadline:
    """For whatever takes a second on a desktop core."""
    return Deadline(60 * slowness())


def dialler(pods: Pods, argv: Sequence[str | Path]) -> Dial:
    """Starts `argv`, each time with a log of its own."""
    numbers = itertools.count(1)

    def dial() -> AbstractContextManager[Foreign]:
        return started(argv, pods.place.folder, pods.folder / f"client-{next(numbers)}.log")

    return dial


def cid(pod: Pod) -> int:
    """The pod's CID."""
    found = pod.endpoint(Link.VSOCK).cid
    assert found is not None
    return found


@contextlib.contextmanager
def serving(pods: Pods, pod: Pod, *argv: str) -> Iterator[Container]:
    """The program runs in the pod."""
    log = pods.folder / f"{Path(argv[0]).name}.log"
    with programs.running(pod.endpoint(Link.VSOCK), argv, log) as container:
        yield container
        pod.machine.check()


def pattern(start: int, end: int) -> bytes:
    """Bytes of nbdkit's pattern disk: each eight tell their own offset, big endian."""
    return b"".join(at.to_bytes(8, "big") for at in range(start, end, 8))


@pytest.mark.claim("multiple-clients", link="vsock")
def test_nbdkit_serves_four_at_once_over_vsock(pods: Pods, record_property: Record) -> None:
    """nbdkit over vsock: four nbdcopy in the middle of a copy at once, each copy whole."""
    pod = pods.clone(Link.VSOCK, programs=["nbdkit"])
    uri = f"nbd+vsock://{cid(pod)}:{PORT}"
    dial = dialler(pods, ["nbdcopy", "--connections=1", uri, "-"])
    record_property("expected", "4 served at once")
    nbdkit = ["/usr/bin/nbdkit", "--foreground", "--vsock", f"--port={PORT}", "pattern", f"size={SIZE}"]
    begins, rest = Talk(b"", pattern(0, 64)), Talk(b"", pattern(64, SIZE))
    with serving(pods, pod, *nbdkit), crowd(dial, [begins] * 4, deadline()) as clients:
        found = ends(clients, None, 4 * slowness(), deadline())
        record_property("seen", f"{said(found)} at once")
        assert found == {End.SERVED: 4}
        for client in clients:
            client.ask(rest)
        until(lambda: all(client.look() is not End.WAITING for client in clients), deadline(), "the copies")
        assert [client.look() for client in clients] == [End.SERVED] * 4


def sshd_files(pair: Keys) -> dict[str, bytes]:
    """What sshd needs beside itself: users, keys, a configuration without PAM."""
    options = ["HostKey /etc/ssh/host_key", "UsePAM no", "StrictModes no", "PasswordAuthentication no"]
    return {
        "etc/passwd": b"root:x:0:0:root:/root:/usr/bin/dash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/ssh/sshd_config": "\n".join([*options, ""]).encode(),
        "etc/ssh/host_key": pair.host.read_bytes(),
        "root/.ssh/authorized_keys": pair.user_public.encode(),
    }


def ssh(pair: Keys, cid: int, command: str) -> list[str]:
    """OpenSSH's client over vsock, by a ProxyCommand as systemd's own ssh_config has it."""
    known = pair.host.with_name("known_hosts")
    known.write_text(f"pod {pair.host_public}\n")
    options = {
        "UserKnownHostsFile": known,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "IdentityFile": pair.user,
        "IdentitiesOnly": "yes",
        "ProxyCommand": f"socat - VSOCK-CONNECT:{cid}:{PORT}",
    }
    words = [f"-o{name}={value}" for name, value in options.items()]
    return ["ssh", "-F", "none", "-T", *words, "root@pod", command]


@pytest.mark.claim("multiple-clients", link="vsock")
def test_sshd_serves_four_at_once_over_vsock(pods: Pods, record_property: Record, tmp_path: Path) -> None:
    """sshd over vsock: four sessions of ssh open at once, each reads back what it says."""
    pair = keys.ensure(tmp_path / "keys")
    pod = pods.clone(Link.VSOCK, programs=["sshd", "socat"], files=sshd_files(pair))
    dial = dialler(pods, ssh(pair, cid(pod), "exec busybox cat"))
    record_property("expected", "4 served at once")
    talks = [Talk(line, line) for line in (f"session {number}\n".encode() for number in range(4))]
    sshd = "/usr/sbin/sshd -i -e -f /etc/ssh/sshd_config"
    socat = ["/usr/bin/socat", f"VSOCK-LISTEN:{PORT},fork,reuseaddr", f"EXEC:{sshd}"]
    with serving(pods, pod, *socat), crowd(dial, talks, deadline()) as clients:
        found = ends(clients, talks[0], 4 * slowness(), deadline())
        record_property("seen", f"{said(found)} at once")
        assert found == {End.SERVED: 4}


def ga(method: str, path: str) -> list[str]:
    """qemu-guest-agent on one of its three transports."""
    return ["/usr/sbin/qemu-ga", "-m", method, "-p", path, "-t", "/run", "-f", "/run/qemu-ga.pid"]


def sync(number: int) -> Talk:
    """qemu-guest-agent's own remedy against stale replies: it answers with the number that it is given."""
    say = f'{{"execute": "guest-sync", "arguments": {{"id": {number}}}}}\n'
    return Talk(say.encode(), f'{{"return": {number}}}\n'.encode())


def in_turn(clients: list[Foreign]) -> int:
    """Have who is served leave, until nobody is served any more; how many were, one after the other."""
    served = 0
    while now := [client for client in clients if client.look() is End.SERVED]:
        assert len(now) == 1
        served += 1
        now[0].leave()
        others = (client for client in clients if client is not now[0])
        clients = [client for client in others if client.look() in (End.SERVED, End.WAITING)]
        if clients:
            until(functools.partial(somebody, clients), deadline(), "the next one's turn")
    return served


def somebody(clients: list[Foreign]) -> bool:
    """Whether one of them waits no more."""
    return any(client.look() is not End.WAITING for client in clients)


@pytest.mark.claim("multiple-clients", link="vsock")
def test_qemu_ga_serves_one_at_a_time_even_over_vsock(pods: Pods, record_property: Record) -> None:
    """qemu-guest-agent over vsock: of five clients one is served, two wait in a backlog, two are refused."""
    pod = pods.clone(Link.VSOCK, programs=["qemu-ga"])
    dial = dialler(pods, ["socat", "-", f"VSOCK-CONNECT:{cid(pod)}:{PORT}"])
    record_property("expected", "1 served, 2 waiting, 2 refused; 3 served in turn")
    talks = [sync(number) for number in range(1, 6)]
    with (
        serving(pods, pod, *ga("vsock-listen", f"4294967295:{PORT}")),
        crowd(dial, talks, deadline()) as clients,
    ):
        found = ends(clients, sync(100), slowness(), deadline())
        refused = [client.complaint for client in clients if client.look() is End.REFUSED]
        turns = in_turn(clients)
        record_property("seen", f"{said(found)}; {turns} served in turn")
        assert found == {End.SERVED: 1, End.WAITING: 2, End.REFUSED: 2}
        assert all("Connection reset by peer" in complaint for complaint in refused)
        assert turns == 3


GA_PORT = "org.qemu.guest_agent.0"
SPARE = "/dev/ttyS2"
"""The guest's device of a pod's spare isa-serial port."""


def device(agent: AgentClient) -> str | None:
    """The guest's device of the port called `GA_PORT`, None if it has found none yet."""
    argv = ["/bin/busybox", "sh", "-c", f"grep -l {GA_PORT} /sys/class/virtio-ports/*/name"]
    found = agent.run(argv, deadline=deadline())
    return f"/dev/{Path(found.stdout.decode().strip()).parent.name}" if found.code == 0 else None


def has_opened(agent: AgentClient, pid: int, path: str) -> bool:
    """Whether a process of the guest has a device open: what a UART gets before that is lost.

    :raise AssertionError: the process has ended.
    """
    look = f"[ -d /proc/{pid}/fd ] || exit 2; ls -l /proc/{pid}/fd | grep -q '{path}$'"
    done = agent.run(["/bin/busybox", "sh", "-c", look], deadline=deadline())
    assert done.code in (0, 1), f"process {pid} has ended: {done}"
    return done.code == 0


def one_of_five(pods: Pods, path: Path, record_property: Record) -> None:
    """Five clients of a serial port whose guest's end qemu-guest-agent has: one is served, four wait."""
    record_property("expected", "1 served, 4 waiting; 5 served in turn")
    dial = dialler(pods, ["socat", "-", f"UNIX-CONNECT:{path}"])
    with crowd(dial, [sync(number) for number in range(1, 6)], deadline()) as clients:
        found = ends(clients, sync(100), slowness(), deadline())
        turns = in_turn(clients)
    record_property("seen", f"{said(found)}; {turns} served in turn")
    assert found == {End.SERVED: 1, End.WAITING: 4}
    assert turns == 5


@pytest.mark.claim("serial-one-process", link="virtio-serial")
def test_qemu_ga_serves_one_at_a_time_over_virtio_serial(pods: Pods, record_property: Record) -> None:
    """qemu-guest-agent on a port of its own: of five clients one is served, and four wait for their turn."""
    pod = pods.clone(Link.VSOCK, programs=["qemu-ga"])
    path = pods.place.folder.socket("qemu-ga")
    pods.run(plug_port(pod.machine.monitor, GA_PORT, path, deadline()))
    with AgentClient(connect(pod.endpoint(Link.VSOCK))) as agent:
        port = until(functools.partial(device, agent), deadline(), f"the guest's port {GA_PORT}")
    with serving(pods, pod, *ga("virtio-serial", port)):
        one_of_five(pods, path, record_property)


@pytest.mark.claim("serial-one-process", link="isa-serial")
def test_qemu_ga_serves_one_at_a_time_over_isa_serial(pods: Pods, record_property: Record) -> None:
    """qemu-guest-agent on a UART of its own: of five clients one is served, and four wait for their turn."""
    pod = pods.boot(Link.VSOCK, spare_port=True, programs=["qemu-ga"])
    path = pods.place.folder.socket("qemu-ga")
    pods.run(wire_spare_port(pod.machine.monitor, path, deadline()))
    with serving(pods, pod, *ga("isa-serial", SPARE)) as container:
        with AgentClient(connect(pod.endpoint(Link.VSOCK))) as agent:
            opened = functools.partial(has_opened, agent, container.pid, SPARE)
            until(opened, deadline(), f"qemu-ga has opened {SPARE}")
        one_of_five(pods, path, record_property)
