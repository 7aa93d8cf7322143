"""SSH over a socket that is there already, as over vsock; the server is paramiko's own, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL

from harness.lab import keys
from harness.lab.address import Address
from harness.lab.keys import Keys
from harness.lab.ssh import Ssh
from harness.model.errors import HostUnfit, InfrastructureError


class Server(paramiko.ServerInterface):
    """Lets in whoever has the one key, and says yes to every command without running it."""

    def __init__(self, allowed: str) -> None:
        self._allowed = allowed.split()[1]

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        right = key.get_base64() == self._allowed
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys.ensure(tmp_path_factory.mktemp("keys"))


@contextlib.contextmanager
def served(pair: Keys) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    transport = paramiko.Transport(theirs)
    transport.add_server_key(paramiko.Ed25519Key(filename=str(pair.host)))
    transport.start_server(threading.Event(), server=Server(pair.user_public))
    with ours, theirs, contextlib.closing(transport):
        yield ours
    transport.join()


@pytest.mark.parametrize("port", [22, 2222])
def test_the_pinned_key_is_looked_for_by_the_address_whatever_the_socket(pair: Keys, port: int) -> None:
    address = Address(host="vsock-77", port=port, user="root", key=pair.user, host_key=pair.host_public)
    with served(pair) as sock, Ssh.connect(address, sock) as ssh:
        assert ssh.address is address


def test_another_host_key_is_refused_and_the_socket_closed(pair: Keys, tmp_path: Path) -> None:
    other = keys.ensure(tmp_path / "other").host_public
    address = Address(host="vsock-77", user="root", key=pair.user, host_key=other)
    with served(pair) as sock:
        with pytest.raises(HostUnfit, match="vsock-77"):
            Ssh.connect(address, sock)
        assert sock.fileno() == -1


def test_who_is_not_let_in_is_told_so(pair: Keys, tmp_path: Path) -> None:
    stranger = keys.ensure(tmp_path / "stranger").user
    address = Address(host="vsock-77", user="root", key=stranger, host_key=pair.host_public)
    with served(pair) as sock, pytest.raises(HostUnfit, match="Authentication failed"):
        Ssh.connect(address, sock)


def test_a_peer_that_leaves_is_no_ssh(pair: Keys) -> None:
    address = Address(host="vsock-77", user="root", key=pair.user, host_key=pair.host_public)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(InfrastructureError, match="no SSH"):
        Ssh.connect(address, ours)
