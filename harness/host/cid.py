"""Guest CIDs: claimed by holding them, never guessed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.agent.errnos import errno_name
from harness.host.finding import Finding, Verdict
from harness.host.mends import as_root
from harness.model.errors import HostUnfit, InfrastructureError

VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60
"""``_IOW(VHOST_VIRTIO, 0x60, __u64)`` of linux/vhost.h, on x86-64 and arm64."""

DEVICE = Path("/dev/vhost-vsock")

_LOWEST = 1 << 16
_HIGHEST = 0xFFFF_FFFE
_TRIES = 64

_random = random.SystemRandom()


@dataclass(frozen=True)
class CidLease:
    """A guest CID that is ours while `fd` is open.

    QEMU gets the fd as ``vhostfd`` and keeps a copy: the CID is free again when the last copy is closed.
    """

    cid: int
    fd: int

    @classmethod
    @contextlib.contextmanager
    def claim(
        cls,
        device: Path = DEVICE,
        *,
        set_cid: Callable[[int, int], None] | None = None,
    ) -> Iterator[CidLease]:
        """Claim a CID that no other VM on this host has, for the time of the `with`.

        Random above 65535: the low numbers are what people and other tools pick by hand. The kernel takes 3
        to 0xFFFFFFFE, and answers EADDRINUSE for a CID that is taken (vhost_vsock_set_cid).

        :param set_cid: the ioctl, for tests.
        :raise HostUnfit: ability ``vhost-vsock``: the device is absent or denied; says why.
        :raise InfrastructureError: 64 random CIDs were all taken.
        """
        fd = _open(device)
        try:
            yield cls(_claim(fd, device, _ioctl if set_cid is None else set_cid), fd)
        finally:
            os.close(fd)


def usable() -> bool:
    """Whether this process can lease CIDs here, as `CidLease.claim` would."""
    try:
        with CidLease.claim():
            return True
    except HostUnfit:
        return False


@contextlib.contextmanager
def unheld(
    device: Path = DEVICE,
    *,
    set_cid: Callable[[int, int], None] | None = None,
    root: Path = Path("/"),
) -> Iterator[int]:
    """A CID that nobody on this host holds: it was ours a moment ago, and it is seen at the end that nobody
    has taken it meanwhile.

    :param set_cid: the ioctl, for tests.
    :param root: where ``/proc`` is looked for.
    :raise HostUnfit: as `CidLease.claim`; or what is dialled there would leave this host (see
        `settle_g2h_fallback`).
    :raise InfrastructureError: somebody took it: what was seen there may be theirs.
    """
    if (fallback := g2h_fallback(root)).verdict not in (Verdict.OK, Verdict.NOT_NEEDED):
        raise HostUnfit(
            f"a CID that nobody holds cannot be dialled: net.vsock.g2h_fallback {fallback.seen}",
            ability="g2h-fallback",
            hint=fallback.mend,
        )
    with CidLease.claim(device, set_cid=set_cid) as lease:
        cid = lease.cid
    yield cid
    fd = _open(device)
    try:
        (set_cid or _ioctl)(fd, cid)
    except OSError as error:
        raise InfrastructureError(f"CID {cid} was somebody's while it was to be nobody's: {error}") from error
    finally:
        os.close(fd)


def _claim(fd: int, device: Path, set_cid: Callable[[int, int], None]) -> int:
    for _ in range(_TRIES):
        cid = _random.randint(_LOWEST, _HIGHEST)
        try:
            set_cid(fd, cid)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise HostUnfit(
                f"{device} opened, but claiming guest CID {cid} failed: {error.strerror}",
                ability="vhost-vsock",
                hint="see `vsock-harness doctor`",
            ) from error
        return cid
    raise InfrastructureError(f"{_TRIES} random guest CIDs were all taken; is {device} what it says?")


def _ioctl(fd: int, cid: int) -> None:
    fcntl.ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))


def _open(device: Path) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        why = {
            errno.ENOENT: "there is no such device node",
            errno.ENODEV: "the node is there, but the kernel has no vhost_vsock to load",
            errno.ENXIO: "the node is there, but the kernel has no vhost_vsock to load",
            errno.EACCES: "its permissions deny it to this user",
            errno.EPERM: "this container or its security profile denies it",
        }.get(error.errno or 0, error.strerror)
        raise HostUnfit(
            f"cannot open {device}: {why} ({errno_name(error)})",
            ability="vhost-vsock",
            hint="see `vsock-harness doctor`",
        ) from error


def settle_g2h_fallback(root: Path = Path("/")) -> Finding:
    """Set ``net.vsock.g2h_fallback`` to 0, or say that it could not be done.

    Where this host is itself a guest, that sysctl (Linux 7.0 and later, default 1) sends a connection to a
    CID nobody here owns on to the outer host instead of failing with ENODEV (net/vmw_vsock/af_vsock.c).
    """
    return g2h_fallback(root, settle=True)


def g2h_fallback(root: Path = Path("/"), *, settle: bool = False) -> Finding:
    """What ``net.vsock.g2h_fallback`` is; with `settle`, set to 0 first. Raises for no want of permission."""
    path = root / "proc/sys/net/vsock/g2h_fallback"
    needed = "a connection to an unowned CID fails here instead of leaving this host"

    def finding(verdict: Verdict, seen: str) -> Finding:
        mend = as_root("sysctl -w net.vsock.g2h_fallback=0") if verdict is not Verdict.NOT_NEEDED else ""
        return Finding("g2h-fallback", verdict, seen, needed, "" if verdict is Verdict.OK else mend)

    try:
        before = path.read_text().strip()
    except FileNotFoundError:
        return finding(Verdict.NOT_NEEDED, "this kernel has no such setting (it came with 7.0)")
    except OSError as error:
        return finding(Verdict.UNKNOWN, f"cannot read it: {error.strerror}")
    if before == "0":
        return finding(Verdict.OK, "is 0")
    if not settle:
        return finding(Verdict.BROKEN, f"is {before}; a run tries to set it to 0")
    try:
        path.write_text("0\n")
        after = path.read_text().strip()
    except OSError as error:
        return finding(Verdict.DENIED, f"is {before} and could not be set to 0: {error.strerror}")
    return finding(Verdict.OK if after == "0" else Verdict.DENIED, f"was {before}, is now {after}")
