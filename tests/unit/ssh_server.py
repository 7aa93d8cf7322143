"""An SSH server in this process that runs what it is told, on this machine; the server is paramiko's own.

``python -m tests.unit.ssh_server KEYS`` is one in a process of its own, which says its port.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import paramiko
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_OK

from harness.lab.keys import Keys


class _Sftp(paramiko.SFTPServerInterface):
    """This machine's files, as far as they are asked for."""

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        try:
            number = os.open(path, flags, 0o666)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle: Any = paramiko.SFTPHandle(flags)
        handle.readfile = handle.writefile = os.fdopen(number, "wb" if flags & os.O_WRONLY else "rb")
        return handle

    def stat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(Path(path).stat())

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        return _done(os.chmod, path, attr.st_mode)

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        return _done(os.mkdir, path)

    def remove(self, path: str) -> int:
        return _done(os.remove, path)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return _done(os.rename, oldpath, newpath)


def _done(call: Any, *words: Any) -> int:
    try:
        call(*words)
    except OSError as error:
        return int(paramiko.SFTPServer.convert_errno(error.errno or 0))
    return SFTP_OK


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


def _pass_on(stream: IO[bytes], send: Callable[[bytes], object]) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(stream.fileno(), 1 << 16):
            send(data)


def _run(channel: paramiko.Channel, command: str) -> None:
    with subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        streams = ((process.stdout, channel.sendall), (process.stderr, channel.sendall_stderr))
        threads = [threading.Thread(target=_pass_on, args=stream) for stream in streams]
        for thread in threads:
            thread.start()
        with contextlib.suppress(OSError):
            while data := channel.recv(1 << 16):
                process.stdin.write(data)
        with contextlib.suppress(OSError):
            process.stdin.close()
        for thread in threads:
            thread.join()
        with contextlib.suppress(OSError):
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
                    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Sftp)
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


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with listening(Keys(user=folder / "user", host=folder / "host")) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        sys.stdin.read()
