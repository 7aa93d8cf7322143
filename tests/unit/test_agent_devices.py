"""The guest's serial devices: which of them the agent finds, and when it serves them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.agent import __main__ as start
from harness.agent import ports
from harness.agent.decoder import Decoder
from harness.agent.server import Agent
from harness.agent.wire import Frame, Kind, encode


def test_serial_devices_are_served_once_each_and_again_when_they_come_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    serving: dict[str, threading.Thread] = {}
    for _ in range(2):
        master, slave = os.openpty()
        device = os.ttyname(slave)
        monkeypatch.setattr(ports, "find", lambda device=device: [device, "/no/such"])
        for _ in range(2):
            start.serve_new(Agent(), serving)
        os.write(master, encode(Frame(Kind.ECHO, 1, b"to a tty")))
        assert Decoder().feed(os.read(master, 1000)) == [Frame(Kind.DATA, 1, b"to a tty")]
        os.close(slave)
        os.close(master)
        serving[device].join(10)
        said = capfd.readouterr().out
        assert said.count(f"vsock-harness agent: {device}\n") == 1
        assert said.count("vsock-harness agent: /no/such: [Errno 2]") == 2


# Finding the serial devices


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    for folder in ("dev", "sys/class/tty/console", "sys/class/tty/ttyS1", "sys/class/virtio-ports"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sys/class/tty/console/active").write_text("tty0 ttyS0\n")
    (tmp_path / "sys/class/tty/ttyS1/type").write_text("0\n")
    (tmp_path / "dev/ttyS1").touch()
    return tmp_path


def add_port(guest: Path, port: str, name: str, *, console: bool = False) -> None:
    (guest / "sys/class/virtio-ports" / port).mkdir()
    if name:
        (guest / "sys/class/virtio-ports" / port / "name").write_text(f"{name}\n")
    if console:
        os.mknod(guest / "dev" / port, 0o600 | 0o140000)  # opening a socket's file fails with ENXIO
    else:
        (guest / "dev" / port).touch()


def found(guest: Path) -> list[str]:
    return [str(Path(device).relative_to(guest / "dev")) for device in ports.find(str(guest))]


def test_no_devices(guest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert found(guest) == []
    assert ports.find(str(tmp_path_factory.mktemp("empty"))) == []


def test_second_pc_serial_port_only_with_hardware_and_no_console(guest: Path) -> None:
    (guest / "sys/class/tty/ttyS1/type").write_text("4\n")
    assert found(guest) == ["ttyS1"]
    (guest / "sys/class/tty/console/active").write_text("ttyS0 ttyS1\n")
    assert found(guest) == []


def test_virtio_ports_of_our_name(guest: Path) -> None:
    add_port(guest, "vport1p10", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p9", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p1", "org.qemu.guest_agent.0")
    assert found(guest) == ["vport1p9", "vport1p10"]


def test_the_port_behind_a_proxy_is_known_by_its_name(guest: Path) -> None:
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    add_port(guest, "vport2p1", ports.PROXY_PORT_NAME)
    assert found(guest) == ["vport1p1", "vport2p1"]
    multiplexed = [ports.is_multiplexed(device, str(guest)) for device in ports.find(str(guest))]
    assert multiplexed == [False, True]
    assert not ports.is_multiplexed("/dev/ttyS1", str(guest))


def test_ports_of_our_names_are_not_opened_to_be_found(guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To close one again would throw away what a client has sent already."""
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    add_port(guest, "vport2p1", ports.PROXY_PORT_NAME)
    opened: list[object] = []
    monkeypatch.setattr("harness.agent.ports.os.open", lambda *words: opened.append(words))
    assert found(guest) == ["vport1p1", "vport2p1"]
    assert opened == []


def test_consoles_are_counted_in_their_order(guest: Path) -> None:
    add_port(guest, "vport0p0", "", console=True)
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    add_port(guest, "vport1p2", f"{ports.AGENT_PORT_NAME}.console", console=True)
    assert found(guest) == ["vport1p1", "hvc1"]
    (guest / "sys/class/tty/console/active").write_text("hvc1\n")
    assert found(guest) == ["vport1p1"]


def test_a_port_that_has_no_device_yet(guest: Path) -> None:
    add_port(guest, "vport1p1", ports.AGENT_PORT_NAME)
    (guest / "dev/vport1p1").unlink()
    assert found(guest) == []
