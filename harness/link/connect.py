"""Dialling an endpoint. The only place of the harness that opens a connection to an agent."""

from __future__ import annotations

import socket

from harness.model.errors import UsageError
from harness.model.link import AGENT_PORT, Endpoint

FIRST_GUEST_CID = 3
"""0 is the hypervisor, 1 this machine itself, 2 the host this machine may be a guest of (vsock(7))."""


def connect(endpoint: Endpoint) -> socket.socket:
    """Connect to `endpoint` and return the socket, blocking and without a timeout.

    A serial port's connect() may block for ever, and a connection that it returned may be served much later
    or never: that is what is to be seen, so nothing here hides it. On vsock the kernel gives up after 2 s
    (VSOCK_DEFAULT_CONNECT_TIMEOUT, net/vmw_vsock/af_vsock.c); a Python timeout would hide its errno.

    :raise OSError: when connect() fails, with its errno; the socket is closed then.
    :raise UsageError: for an endpoint without its address, and for a CID below 3: it leads to this machine
        itself or to a hypervisor around it, never to a VM of ours.
    """
    family, address = _address(endpoint)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _address(endpoint: Endpoint) -> tuple[int, tuple[int, int] | str]:
    if endpoint.link.is_serial_port:
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
