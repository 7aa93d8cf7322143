"""Dialling an endpoint. The only place of the harness that opens a connection to an agent."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct

from harness.model.errors import UsageError
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.model.steps import SocketType

KERNEL_TIMEOUT = 2.0
"""Seconds a vsock connect() takes at most by default (VSOCK_DEFAULT_CONNECT_TIMEOUT, af_vsock.c)."""

KINDS = {
    SocketType.STREAM: socket.SOCK_STREAM,
    SocketType.SEQPACKET: socket.SOCK_SEQPACKET,
    SocketType.DGRAM: socket.SOCK_DGRAM,
}
"""The kernel's socket types."""

_SO_VM_SOCKETS_CONNECT_TIMEOUT = 6  # linux/vm_sockets.h

_LONGEST_ANSWER = 32
"""Characters of ``OK`` and a port at most."""

FIRST_GUEST_CID = 3
"""0 is the hypervisor, 1 this machine itself, 2 the host this machine may be a guest of (vsock(7))."""


def connect(
    endpoint: Endpoint, kind: SocketType = SocketType.STREAM, *, vsock_timeout: float = KERNEL_TIMEOUT
) -> socket.socket:
    """Connect to `endpoint` and return the socket, blocking and without a timeout.

    A serial port's connect() may block for ever, and a connection that it returned may be served much later
    or never: that is what is to be seen, so nothing here hides it. On vsock the kernel gives up with
    ETIMEDOUT after `vsock_timeout` seconds; a Python timeout would hide its errno.

    On hybrid-vsock the Unix socket is then asked for the agent's port, and the answer has come when this
    returns. No answer within `vsock_timeout` is ETIMEDOUT, and the end of the connection in its place, which
    is all that a refusal says there, is ECONNRESET, as the kernel has it on vsock.

    :raise OSError: when connect() fails, or the kernel has no such socket, with its errno.
    :raise UsageError: for an endpoint without its address, and for a CID below 3: it leads to this machine
        itself or to a hypervisor around it, never to a VM of ours.
    """
    family, address = _address(endpoint)
    sock = socket.socket(family, KINDS[kind])
    try:
        if family == socket.AF_VSOCK and vsock_timeout != KERNEL_TIMEOUT:
            _set_timeout(sock, vsock_timeout)
        sock.connect(address)
        if endpoint.link is Link.HYBRID_VSOCK:
            _ask_for(AGENT_PORT if endpoint.port is None else endpoint.port, sock, vsock_timeout)
    except OSError:
        sock.close()
        raise
    return sock


def _ask_for(port: int, sock: socket.socket, seconds: float) -> None:
    """Say ``CONNECT port`` and read ``OK port``, no byte more: what follows is the agent's.

    The words are Firecracker's (docs/vsock.md there); vhost-device-vsock has them, too.
    """
    sock.settimeout(seconds)
    answer = b""
    try:
        sock.sendall(b"CONNECT %d\n" % port)
        while not answer.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte or len(answer) == _LONGEST_ANSWER:
                raise ConnectionResetError(errno.ECONNRESET, f"no OK for port {port}, but {answer!r}")
            answer += byte
    except TimeoutError as error:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer to CONNECT {port}") from error
    if not answer.startswith(b"OK "):
        raise ConnectionResetError(errno.ECONNRESET, f"no OK for port {port}, but {answer!r}")
    sock.settimeout(None)


def _set_timeout(sock: socket.socket, seconds: float) -> None:
    """Set SO_VM_SOCKETS_CONNECT_TIMEOUT; by libc, because Python takes only ints for AF_VSOCK options."""
    whole = int(seconds)
    value = struct.pack("=qq", whole, int((seconds - whole) * 1e6))  # struct timeval
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setsockopt(sock.fileno(), socket.AF_VSOCK, _SO_VM_SOCKETS_CONNECT_TIMEOUT, value, len(value)):
        raise OSError(ctypes.get_errno(), "SO_VM_SOCKETS_CONNECT_TIMEOUT")


def _address(endpoint: Endpoint) -> tuple[int, tuple[int, int] | str]:
    if endpoint.link is not Link.VSOCK:
        if not endpoint.path:
            raise UsageError(f"{endpoint.link} endpoint without the path of its Unix socket: {endpoint}")
        return socket.AF_UNIX, endpoint.path
    if endpoint.path is not None:
        raise UsageError(f"vsock endpoint with a path: {endpoint}", hint="give cid and port")
    if endpoint.cid is None:
        raise UsageError(f"vsock endpoint without a CID: {endpoint}")
    if not FIRST_GUEST_CID <= endpoint.cid < socket.VMADDR_CID_ANY:
        raise UsageError(
            f"CID {endpoint.cid} is no guest of ours: guests have {FIRST_GUEST_CID} and up",
            hint="dial only CIDs that you hold a lease for",
        )
    return socket.AF_VSOCK, (endpoint.cid, AGENT_PORT if endpoint.port is None else endpoint.port)
