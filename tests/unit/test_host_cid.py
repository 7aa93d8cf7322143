from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from harness.host import cid
from harness.host.cid import CidLease
from harness.host.finding import Verdict
from harness.host.speed import slowness
from harness.model.errors import HostUnfit, InfrastructureError


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "vhost-vsock"
    path.touch()
    return path


class Kernel:
    """Answers the ioctl: EADDRINUSE `taken` times, then takes the CID, or fails with `error`."""

    def __init__(self, taken: int = 0, error: int = 0) -> None:
        self.taken, self.error = taken, error
        self.asked: list[int] = []

    def __call__(self, fd: int, wanted: int) -> None:
        os.fstat(fd)  # it's open
        self.asked.append(wanted)
        if len(self.asked) <= self.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        if self.error:
            raise OSError(self.error, os.strerror(self.error))


def test_a_lease_holds_the_fd_and_no_longer(device: Path) -> None:
    kernel = Kernel()
    with CidLease.claim(device, set_cid=kernel) as lease:
        assert [lease.cid] == kernel.asked
        assert 3 <= lease.cid <= 0xFFFF_FFFE
        assert not os.get_inheritable(lease.fd)
        fd = lease.fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_taken_cids_are_passed_over(device: Path) -> None:
    kernel = Kernel(taken=2)
    with CidLease.claim(device, set_cid=kernel) as lease:
        assert lease.cid == kernel.asked[2]
    assert len(set(kernel.asked)) == 3


def test_a_kernel_that_gives_none_is_told(device: Path) -> None:
    with pytest.raises(InfrastructureError, match="64 random guest CIDs"):
        with CidLease.claim(device, set_cid=Kernel(taken=1000)):
            pass


def test_a_refusal_is_the_hosts(device: Path) -> None:
    with pytest.raises(HostUnfit, match="Permission denied") as caught:
        with CidLease.claim(device, set_cid=Kernel(error=errno.EACCES)):
            pass
    assert caught.value.ability == "vhost-vsock"


def test_what_is_no_vhost_device_is_refused_by_the_real_ioctl(device: Path) -> None:
    with pytest.raises(HostUnfit, match="Inappropriate ioctl"):
        with CidLease.claim(device):
            pass


def open_fds() -> list[str]:
    return sorted(fd.name for fd in Path("/proc/self/fd").iterdir())


def test_a_cid_that_nobody_holds_was_free_before_and_after(device: Path, tmp_path: Path) -> None:
    kernel = Kernel()
    before = open_fds()
    with cid.unheld(device, set_cid=kernel, root=tmp_path) as free:
        assert kernel.asked == [free]
        assert open_fds() == before, "the lease is let go"
    assert kernel.asked == [free, free]
    assert open_fds() == before


def test_a_cid_that_somebody_took_meanwhile_was_not_nobodys(device: Path, tmp_path: Path) -> None:
    kernel = Kernel()
    with pytest.raises(InfrastructureError, match="was somebody's while it was to be nobody's"):
        with cid.unheld(device, set_cid=kernel, root=tmp_path):
            kernel.taken = 2


def test_where_unheld_cids_lead_out_of_this_host_none_is_given(device: Path, tmp_path: Path) -> None:
    setting = tmp_path / "proc/sys/net/vsock/g2h_fallback"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n")
    with pytest.raises(HostUnfit, match=r"net\.vsock\.g2h_fallback is 1") as caught:
        with cid.unheld(device, set_cid=Kernel(), root=tmp_path):
            pass
    assert caught.value.ability == "g2h-fallback"
    setting.write_text("0\n")
    with cid.unheld(device, set_cid=Kernel(), root=tmp_path) as free:
        assert free


def test_absent_device(tmp_path: Path) -> None:
    with pytest.raises(HostUnfit, match=r"no such device node \(ENOENT\)") as caught:
        with CidLease.claim(tmp_path / "none"):
            pass
    assert caught.value.ability == "vhost-vsock"


def test_a_node_without_a_driver(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))  # to open a socket fails with ENXIO, as a node without a driver does
        with pytest.raises(HostUnfit, match=r"no vhost_vsock to load \(ENXIO\)"):
            with CidLease.claim(tmp_path / "s"):
                pass


def test_the_request_number_is_the_headers() -> None:
    write, size, kind, number = 1, 8, 0xAF, 0x60  # _IOW(VHOST_VIRTIO, 0x60, __u64), asm-generic/ioctl.h
    assert write << 30 | size << 16 | kind << 8 | number == cid.VHOST_VSOCK_SET_GUEST_CID


def fallback(root: Path, value: str) -> Path:
    path = root / "proc/sys/net/vsock/g2h_fallback"
    path.parent.mkdir(parents=True)
    path.write_text(value)
    return path


def test_g2h_fallback_is_not_needed_where_there_is_none(tmp_path: Path) -> None:
    assert cid.settle_g2h_fallback(tmp_path).verdict is Verdict.NOT_NEEDED


def test_g2h_fallback_is_set_to_0(tmp_path: Path) -> None:
    path = fallback(tmp_path, "1\n")
    assert cid.g2h_fallback(tmp_path).verdict is Verdict.BROKEN
    assert path.read_text() == "1\n"  # looking changes nothing
    found = cid.settle_g2h_fallback(tmp_path)
    assert (found.verdict, found.seen, found.mend) == (Verdict.OK, "was 1, is now 0", "")
    assert path.read_text() == "0\n"
    assert cid.g2h_fallback(tmp_path).seen == "is 0"


def test_g2h_fallback_that_cannot_be_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fallback(tmp_path, "1\n")

    def denied(self: Path, data: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", denied)
    found = cid.settle_g2h_fallback(tmp_path)
    assert found.verdict is Verdict.DENIED
    assert "could not be set to 0: Permission denied" in found.seen
    assert found.mend.endswith("sysctl -w net.vsock.g2h_fallback=0")


def test_slowness_is_a_floor_of_one_and_stays() -> None:
    assert slowness() >= 1.0
    assert slowness() == slowness()
