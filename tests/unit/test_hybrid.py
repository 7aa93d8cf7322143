"""The link hybrid-vsock without a VM: words on the Unix socket, the device's process, the memory's copy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from harness.host.runfolder import RunFolder
from harness.link.connect import connect
from harness.model.errors import HostUnfit, InfrastructureError, SystemFailure
from harness.model.link import Endpoint, Link
from harness.run import hybrid
from harness.run.hybrid import Device
from harness.vm.machine import Machine
from tests.unit.images import image

DEVICE = Path(__file__).with_name("fake_vhost_device.py")


@pytest.fixture
def path(folder: RunFolder) -> Path:
    return folder.socket("hybrid")


def answering(path: Path, answer: bytes, heard: list[bytes]) -> threading.Thread:
    """A host socket that takes one client, hears a line, says `answer` and leaves."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener:
            peer, _ = listener.accept()
            with peer:
                heard.append(peer.recv(100))
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):  # it left without reading all
                    peer.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_client_asks_for_the_port_and_reads_no_byte_of_what_follows(path: Path) -> None:
    heard: list[bytes] = []
    server = answering(path, b"OK 1024\nthe agent's", heard)
    with connect(Endpoint(link=Link.HYBRID_VSOCK, path=str(path), port=7000)) as sock:
        assert sock.gettimeout() is None
        assert sock.recv(100) == b"the agent's"
    server.join()
    assert heard == [b"CONNECT 7000\n"]


@pytest.mark.parametrize("answer", [b"", b"OK 10", b"NO 1024\n", b"OK" + b"1" * 100])
def test_what_is_no_ok_is_a_reset(path: Path, answer: bytes) -> None:
    server = answering(path, answer, [])
    with pytest.raises(OSError) as caught:
        connect(Endpoint(link=Link.HYBRID_VSOCK, path=str(path)))
    assert caught.value.errno == errno.ECONNRESET
    server.join()


def test_no_answer_is_a_timeout_with_its_errno(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(OSError) as caught:
            connect(Endpoint(link=Link.HYBRID_VSOCK, path=str(path)), vsock_timeout=0.05)
    assert caught.value.errno == errno.ETIMEDOUT


class Puppet:
    """What of a machine the device looks at."""

    def __init__(self, *, dead: bool) -> None:
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if dead:
            self.died.set_result(None)


def with_device(
    folder: RunFolder, logs: Path, what: Callable[[Device], Awaitable[None]], how: str = ""
) -> None:
    """Run `what` beside a device that behaves as `how` says."""

    async def run() -> None:
        words = (sys.executable, str(DEVICE), *([how] if how else []))
        async with hybrid.running(words, folder, logs) as device:
            await what(device)

    asyncio.run(run())


def test_it_listens_when_it_is_there_and_is_gone_afterwards(folder: RunFolder, tmp_path: Path) -> None:
    seen: list[Device] = []

    async def what(device: Device) -> None:
        seen.append(device)
        for place in (device.sockets.socket, device.sockets.uds):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(place))
        assert device.endpoint == Endpoint(link=Link.HYBRID_VSOCK, path=str(device.sockets.uds), port=1024)
        await device.check()

    with_device(folder, tmp_path / "logs", what)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0].pid, 0)
    assert not seen[0].sockets.uds.exists()
    said = (tmp_path / "logs/vhost-device-vsock.log").read_text()
    assert f"--vm guest-cid=3,socket={seen[0].sockets.socket},uds-path={seen[0].sockets.uds}" in said


@pytest.mark.parametrize("vm_is_dead", [False, True])
def test_its_death_is_a_failure_unless_its_vm_died(
    folder: RunFolder, tmp_path: Path, vm_is_dead: bool
) -> None:
    async def what(device: Device) -> None:
        device.serves(cast(Machine, Puppet(dead=vm_is_dead)))
        os.kill(device.pid, signal.SIGKILL)
        await device.ended()
        if vm_is_dead:
            await device.check()
        else:
            with pytest.raises(SystemFailure, match=r"ended by itself with -9"):
                await device.check()
            await device.check()  # once

    with_device(folder, tmp_path, what)


def test_a_death_that_was_allowed_is_none(folder: RunFolder, tmp_path: Path) -> None:
    async def what(device: Device) -> None:
        device.allow_end()
        os.kill(device.pid, signal.SIGKILL)
        await device.ended()
        await device.check()

    with_device(folder, tmp_path, what)


def test_one_that_ends_at_once_says_why(folder: RunFolder, tmp_path: Path) -> None:
    async def never(device: Device) -> None:
        raise AssertionError(device)

    with pytest.raises(InfrastructureError, match="ended with 3 before it listened") as caught:
        with_device(folder, tmp_path, never, "--refuse")
    assert "no such option" in caught.value.detail


def test_a_host_without_it_is_unfit_and_told_how_to_get_it(folder: RunFolder, tmp_path: Path) -> None:
    async def run() -> None:
        async with hybrid.running((), folder, tmp_path):
            raise AssertionError

    with pytest.raises(HostUnfit) as caught:
        asyncio.run(run())
    assert caught.value.hint == "vsock-harness images build vhost-device-vsock"


def test_the_image_is_run_by_its_own_loader(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    words = hybrid.of_image(image(tmp_path, hybrid.IMAGE))
    assert words[0] == f"{tmp_path}/tree/usr/lib64/ld-linux-x86-64.so.2"
    assert words[-1] == f"{tmp_path}/tree/usr/bin/vhost-device-vsock"


def test_a_copy_has_the_same_bytes_and_the_same_holes(folder: RunFolder, tmp_path: Path) -> None:
    file, copy = tmp_path / "ram", tmp_path / "copy"
    with file.open("wb") as out:
        for at in (0, 5 << 20, (16 << 20) - 4096):
            out.seek(at)
            out.write(os.urandom(4096))
    hybrid.copy_sparse(file, copy)
    assert copy.read_bytes() == file.read_bytes()
    assert copy.stat().st_blocks * 512 < 1 << 20

    async def run() -> Path:
        async with hybrid.copied(file, folder) as made:
            assert made.stat().st_size == 16 << 20
            return made

    assert not asyncio.run(run()).exists()


def test_a_copy_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"ram can't be copied to .*copy: No such file"):
        hybrid.copy_sparse(tmp_path / "ram", tmp_path / "copy")


def test_a_file_of_holes_is_copied_too(tmp_path: Path) -> None:
    (tmp_path / "ram").touch()
    os.truncate(tmp_path / "ram", 1 << 20)
    hybrid.copy_sparse(tmp_path / "ram", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == bytes(1 << 20)
