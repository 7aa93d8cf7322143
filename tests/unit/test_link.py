"""Dialling: the address, the errno, the CIDs that are nobody's to dial. No AF_VSOCK connection."""

from __future__ import annotations

import ctypes
import errno
import socket
from pathlib import Path

import pytest

from harness.link import connect as connecting
from harness.link.connect import connect
from harness.model.errors import UsageError
from harness.model.link import AGENT_PORT, Endpoint, Link


class Recording:
    """A socket class that dials nobody."""

    made: list[Recording]

    def __init__(self, family: int, kind: int) -> None:
        self.family, self.kind = family, kind
        self.address: object = None
        self.closed = False
        self.error: OSError | None = None
        Recording.made.append(self)

    def connect(self, address: object) -> None:
        self.address = address
        if address == (99, AGENT_PORT):
            raise OSError(errno.ENODEV, "No such device")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    Recording.made = []
    monkeypatch.setattr("socket.socket", Recording)
    return Recording.made


def test_a_unix_socket_is_connected_blocking(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with connect(Endpoint(link=Link.VIRTIO_SERIAL, path=str(tmp_path / "s"))) as sock:
            assert sock.getblocking()
            assert sock.gettimeout() is None
            peer, _ = listener.accept()
            with peer:
                sock.sendall(b"x")
                assert peer.recv(2) == b"x"


def test_the_errno_is_the_kernels_and_nothing_stays_open(tmp_path: Path) -> None:
    before = sorted(fd.name for fd in Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        connect(Endpoint(link=Link.ISA_SERIAL, path=str(tmp_path / "missing")))
    assert sorted(fd.name for fd in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(("port", "dials"), [(None, AGENT_PORT), (7000, 7000)])
def test_vsock_dials_its_cid_and_port(dialled: list[Recording], port: int | None, dials: int) -> None:
    connect(Endpoint(link=Link.VSOCK, cid=3, port=port))
    assert [(sock.family, sock.kind, sock.address, sock.closed) for sock in dialled] == [
        (socket.AF_VSOCK, socket.SOCK_STREAM, (3, dials), False)
    ]


def test_a_failed_vsock_connect_closes_its_socket(dialled: list[Recording]) -> None:
    with pytest.raises(OSError) as caught:
        connect(Endpoint(link=Link.VSOCK, cid=99))
    assert caught.value.errno == errno.ENODEV
    assert [sock.closed for sock in dialled] == [True]


@pytest.mark.parametrize("cid", [-1, 0, 1, 2, 0xFFFFFFFF, 1 << 32])
def test_what_is_no_guest_is_never_dialled(dialled: list[Recording], cid: int) -> None:
    with pytest.raises(UsageError, match="no guest of ours"):
        connect(Endpoint(link=Link.VSOCK, cid=cid, port=1024))
    assert not dialled


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint(link=Link.VSOCK),
        Endpoint(link=Link.VSOCK, cid=5, path="/s"),
        Endpoint(link=Link.VIRTIO_SERIAL),
        Endpoint(link=Link.HYBRID_VSOCK, port=1024),
        Endpoint(link=Link.VIRTCONSOLE, cid=5, port=1024),
    ],
)
def test_an_endpoint_without_its_address_is_a_usage_error(
    dialled: list[Recording], endpoint: Endpoint
) -> None:
    with pytest.raises(UsageError):
        connect(endpoint)
    assert not dialled


def test_the_kernel_takes_the_connect_timeout() -> None:
    with socket.socket(socket.AF_VSOCK) as sock:  # never connected
        connecting._set_timeout(sock, 12.5)
        value = (ctypes.c_longlong * 2)()
        size = ctypes.c_uint(ctypes.sizeof(value))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.getsockopt(sock.fileno(), socket.AF_VSOCK, 6, value, ctypes.byref(size)) == 0
        assert (value[0], value[1] // 10_000) == (12, 50)
