"""What the guest's agent is asked after a fault, and by which way: with a real agent."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient, Facts
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.fault import Fault, FaultKind
from harness.model.link import Link
from harness.run import aftermath, faults
from harness.run.aftermath import Aftermath, control_link
from harness.run.meeting import After
from tests.unit.agents import serial_like_agent
from tests.unit.fake_vm import FakeVm, done, wanting, wish
from tests.unit.running import endpoint

ENDS_IN_GUEST = aftermath._ENDS_IN_GUEST

pytestmark = pytest.mark.usefixtures("nobody_ends")


@pytest.mark.parametrize(
    ("kind", "link", "waited"),
    [
        (FaultKind.SHIM_KILL, Link.VIRTIO_SERIAL, True),  # it was the only one there
        (FaultKind.SHIM_KILL, Link.ISA_SERIAL, False),  # nothing tells the guest that it has gone
        (FaultKind.SHIM_KILL, Link.VIRTCONSOLE, False),
        (FaultKind.SHIM_KILL, Link.VSOCK, False),
        (FaultKind.UNPLUG, Link.VIRTIO_SERIAL, True),
        (FaultKind.PAUSE, Link.VSOCK, False),
    ],
)
def test_containers_are_counted_when_they_should_be_gone(
    vm: FakeVm, monkeypatch: pytest.MonkeyPatch, kind: FaultKind, link: Link, waited: bool
) -> None:
    monkeypatch.setattr(aftermath, "ANSWERS", 1.0)
    with AgentClient(connect(endpoint(vm.path))) as client:
        client.start(["sleep", "1000"])
        assert done(wanting(kind, link), vm) == After(ended={}, containers=1)  # all the patience was in vain
        later = threading.Timer(0.5, client.close)
        later.start()
        after = done(wanting(kind, link), vm)
        later.join()
    assert after == After(ended={}, containers=0 if waited else 1)


@pytest.mark.parametrize(
    ("kind", "link", "ending"),
    [
        (FaultKind.SHIM_KILL, Link.VSOCK, {"idle/0"}),
        (FaultKind.SHIM_KILL, Link.SERIAL_PROXY, {"idle/0"}),
        (FaultKind.SHIM_KILL, Link.VIRTIO_SERIAL, set()),  # a port has no connection that could end
        (FaultKind.RESTORE, Link.VIRTIO_SERIAL, set()),
        (FaultKind.UNPLUG, Link.VIRTIO_SERIAL, {"idle/0"}),
        (FaultKind.RESTORE, Link.SERIAL_PROXY, set()),  # another proxy is there before the guest looks
        (FaultKind.PAUSE, Link.VSOCK, set()),
    ],
)
def test_whose_end_the_guest_is_to_hear_of(
    monkeypatch: pytest.MonkeyPatch, kind: FaultKind, link: Link, ending: set[str]
) -> None:
    monkeypatch.setattr(aftermath, "_ENDS_IN_GUEST", ENDS_IN_GUEST)
    what = wanting(kind, link)
    assert what.fault
    assert aftermath._ending(what, what.fault) == ending


def test_the_agent_is_asked_until_it_knows_of_the_end(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftermath, "_ENDS_IN_GUEST", frozenset([FaultKind.SHIM_KILL]))
    shim = msgspec.structs.replace(
        wish(FaultKind.SHIM_KILL), fault=Fault(kind=FaultKind.SHIM_KILL, group="idle")
    )
    with connect(endpoint(vm.path)) as sock:
        sock.sendall(encode(Frame(Kind.HELLO, 5, b'{"label":"idle/0"}')))
        assert sock.recv(65536)
        later = threading.Timer(0.5, sock.shutdown, [socket.SHUT_RDWR])
        before = time.monotonic()
        later.start()
        after = done(shim, vm)
        later.join()
    assert after.ended
    assert after.ended["idle/0"].how == "eof"
    assert before + 0.5 <= after.ended["idle/0"].at < time.monotonic(), "when it ended, not when it was asked"
    assert after.containers == 0


def test_when_containers_were_removed_is_the_agents_own_time(vm: FakeVm) -> None:
    """Not that at which it was asked. On a port nothing else tells that the shim has gone."""
    with serial_like_agent("port") as path:
        with connect(endpoint(path)) as sock:
            client = AgentClient(sock)
            client.start(["sleep", "1000"])
            sock.sendall(encode(Frame(Kind.HELLO, 5, b'{"label":"idle/0"}')))
            assert sock.recv(65536)
            before = time.monotonic()
        until(lambda: _asked(path).containers == 0, Deadline(20), "the removal")
        time.sleep(0.5)
        asked = Aftermath(wish(FaultKind.SHIM_KILL), Fault(kind=FaultKind.SHIM_KILL, group="idle"), 1.0)
        after = asked.told(endpoint(path))
        answered = time.monotonic()
    assert after.ended == {}
    assert before <= after.removed["idle/0"] <= answered - 0.5


def _asked(path: Path) -> Facts:
    with AgentClient(connect(endpoint(path))) as client:
        return client.facts(deadline=Deadline(20))


def test_where_the_proxy_has_ended_all_are_to_have_ended(vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the fault was: a pause that was too long for it."""
    monkeypatch.setattr(aftermath, "ANSWERS", 1.0)
    proxy = SimpleNamespace(allow_end=lambda: None, over=True)
    with connect(endpoint(vm.path)) as sock:
        sock.sendall(encode(Frame(Kind.HELLO, 5, b'{"label":"idle/0"}')))
        assert sock.recv(65536)
        later = threading.Timer(0.5, sock.shutdown, [socket.SHUT_RDWR])
        later.start()
        after = done(wanting(FaultKind.PAUSE, Link.SERIAL_PROXY), vm, proxy)
        later.join()
    assert after.ended
    assert after.ended["idle/0"].how == "eof"


def test_its_own_words_go_by_another_link() -> None:
    assert all(control_link(link) is not link for link in Link)
    with serial_like_agent() as path:
        vm = FakeVm(path)
        assert done(wish(FaultKind.SHIM_KILL), vm) == After(ended={}, containers=0)


def test_the_port_that_an_armed_command_holds_is_free_for_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A serial port has one client: who asks while another is there waits for ever."""
    monkeypatch.setitem(faults.IN_GUEST, FaultKind.UNBIND, "read line; read line")
    monkeypatch.setattr(Aftermath, "answered", lambda self, endpoint, patience: None)
    with serial_like_agent() as path:
        assert done(wish(FaultKind.UNBIND), FakeVm(path)) == After(ended={}, containers=0)
