"""The host's listening end, for connections that the guest opens: a port that is held, never guessed."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
from collections.abc import Iterator

from harness.agent.sockets import PORTS
from harness.link.connect import KINDS
from harness.model.errors import InfrastructureError
from harness.model.link import Endpoint
from harness.model.steps import SocketType

_TRIES = 64


class Listener:
    """A bound port of the host, `port`, where the guest behind one endpoint is awaited; see `listening`."""

    def __init__(self, sock: socket.socket, port: int, cid: int | None) -> None:
        self.port = port
        self._sock = sock
        self._cid = cid

    def fileno(self) -> int:
        """The listening socket's descriptor, readable when somebody has connected."""
        return self._sock.fileno()

    def accept(self, cid: int | None = None) -> socket.socket:
        """Wait for the guest's next connection, for ever; it is blocking and has no timeout.

        Another guest's, which the kernel lets in as well, is closed and not seen by anybody.

        :param cid: the guest's, if that is another one by now.
        :raise OSError: when accept() fails.
        """
        wanted = self._cid if cid is None else cid
        while True:
            connection, address = self._sock.accept()
            if wanted is None or address[0] == wanted:
                return connection
            connection.close()

    def dismiss(self) -> bool:
        """Take the next connection, waiting for it, and close it; whether it was this guest's."""
        try:
            connection, address = self._sock.accept()
        except OSError:  # it has ended in the backlog
            return False
        connection.close()
        return self._cid is None or address[0] == self._cid


@contextlib.contextmanager
def listening(
    endpoint: Endpoint, kind: SocketType = SocketType.STREAM, *, refusing: bool = False
) -> Iterator[Listener]:
    """Where the guest behind `endpoint` gets when it dials the host, for the time of the `with`.

    vsock: a port of CID 2 (VMADDR_CID_HOST) that the kernel chooses. An endpoint with a path, as a hybrid
    vsock device has: the Unix socket ``PATH_PORT`` beside it, to which such a device leads what the guest
    sends to that port of the host.

    :param refusing: hold the port without listening, so that whoever dials it is refused.
    :raise OSError: when the kernel gives no such socket.
    """
    with contextlib.ExitStack() as stack:
        family = socket.AF_VSOCK if endpoint.path is None else socket.AF_UNIX
        sock = stack.enter_context(socket.socket(family, KINDS[kind]))
        if endpoint.path is None:
            # bound to the host's CID, so that nothing from a hypervisor around this host gets in
            sock.bind((socket.VMADDR_CID_HOST, socket.VMADDR_PORT_ANY))
            port = int(sock.getsockname()[1])
        else:
            port = _hold_beside(endpoint.path, sock)
            stack.callback(os.unlink, f"{endpoint.path}_{port}")
        if not refusing:
            sock.listen(1)
        yield Listener(sock, port, endpoint.cid)


def _hold_beside(path: str, sock: socket.socket) -> int:
    for port in random.SystemRandom().sample(PORTS, _TRIES):
        try:
            sock.bind(f"{path}_{port}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise
        return port
    raise InfrastructureError(f"{_TRIES} random ports beside {path} were all taken")
