"""A way to a host that is a command, as OpenSSH's ProxyCommand."""

from __future__ import annotations

import socket
import subprocess

_ENDS_WITHIN = 5.0
"""Seconds for the command to end once its input has."""


class Way:
    """`command` runs, and `sock` is what it reads and writes; `close` ends both.

    A socket of ours and not paramiko's ProxyCommand: that leaves its process unreaped.
    """

    def __init__(self, command: str) -> None:
        """:raise OSError: there is no shell."""
        self.sock, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno()
            )

    def close(self) -> None:
        """Returns when the command has ended, which is killed if it does not."""
        self.sock.close()
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
