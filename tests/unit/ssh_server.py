"""An SSH server in this process that runs what it is told, on this machine; the server is paramiko's own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import paramiko
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.lab.keys import Keys


class _Server(paramiko.ServerInterface):
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_run, args=(channel, command.decode())).start()
        return True


def _run(channel: paramiko.Channel, command: str) -> None:
    with subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.suppress(OSError):
            while data := channel.recv(1 << 16):
                process.stdin.write(data)
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(OSError):
            channel.sendall(process.stdout.read())
            channel.sendall_stderr(process.stderr.read())
            channel.send_exit_status(process.wait())
    channel.close()


@contextlib.contextmanager
def listening(pair: Keys) -> Iterator[int]:
    """The port of 127.0.0.1 on which one connection after the other is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        transports: list[paramiko.Transport] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = paramiko.Transport(listener.accept()[0])
                    transports.append(transport)
                    transport.add_server_key(paramiko.Ed25519Key(filename=str(pair.host)))
                    transport.start_server(threading.Event(), server=_Server())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for transport in transports:
                transport.close()
                transport.join()
