"""Where clients reach a machine's agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.model.errors import UsageError
from harness.model.link import AGENT_PORT, Endpoint, Link
from harness.vm.commandline import VhostUser
from harness.vm.launch import Lease


class Endpoints:
    """Where the links are reached: fixed sockets, and a vsock device that comes and goes."""

    def __init__(self, paths: Mapping[Link, Path], lease: Lease | VhostUser | None) -> None:
        self._paths = paths
        self.plugged(lease)

    def plugged(self, lease: Lease | VhostUser | None) -> None:
        """Its vsock device is now this one, or none."""
        self.vsock: Endpoint | None = None
        if isinstance(lease, VhostUser):
            self.vsock = Endpoint(link=Link.HYBRID_VSOCK, path=str(lease.uds), port=AGENT_PORT)
        elif lease is not None:
            self.vsock = Endpoint(link=Link.VSOCK, cid=lease.cid, port=AGENT_PORT)

    def of(self, link: Link, name: str) -> Endpoint:
        """That of `link`.

        :param name: the machine's, for messages.
        :raise UsageError: there is no such link, or its vsock isn't plugged in.
        """
        if self.vsock is not None and self.vsock.link is link:
            return self.vsock
        if link in self._paths:
            return Endpoint(link=link, path=str(self._paths[link]))
        there = [*self._paths, *([self.vsock.link] if self.vsock else [])]
        raise UsageError(f"machine {name} has no link {link}; it has: {', '.join(there) or 'none'}")
