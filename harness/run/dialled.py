"""A connection that the guest opens, on a client's word."""

from __future__ import annotations

import socket

from harness.guest.sockets import AgentSockets, guest_error
from harness.link.connect import KERNEL_TIMEOUT, connect
from harness.link.listen import listening
from harness.model.deadline import Deadline
from harness.model.link import Endpoint


def dialled(endpoint: Endpoint, slowness: float, deadline: Deadline | None = None) -> socket.socket:
    """Have the agent behind `endpoint` dial a port that is held here, and return this end of the connection.

    The agent serves it as it serves any client's. It is asked over a connection of its own, which is closed
    before this returns.

    :param deadline: for the agent's word, which is waited for for ever without one.
    :raise DeadlinePassed: it did not come.
    :raise OSError: connect() failed with that errno: this host's to the agent, or the agent's to this host.
    :raise AgentError, ConnectionLost, Garbled: as `AgentSockets.dial`.
    """
    patience = (
        KERNEL_TIMEOUT * slowness
    )  # on an emulated host the kernel's 2 s pass while others have the CPU
    with listening(endpoint) as listener:
        with AgentSockets(connect(endpoint, vsock_timeout=patience)) as agent:
            failed = agent.dial(listener.port, patience=patience, deadline=deadline)
            if failed is not None:
                raise guest_error(failed, "connect")
            return listener.accept()
