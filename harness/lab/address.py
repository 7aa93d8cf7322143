"""Where a host is reached by SSH."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from harness.model.errors import UsageError

_URL = re.compile(r"ssh://(?:(?P<user>[^@/:]+)@)?(?P<host>\[[^\]]+\]|[^:/@]+)(?::(?P<port>\d+))?/?")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A host reached by SSH.

    `key` is a private key's path, None for what the user's agent and ~/.ssh offer. `host_key` is the one
    accepted key ("type base64"), empty for the user's known_hosts.
    """

    host: str
    port: int = 22
    user: str = ""
    key: Path | None = None
    host_key: str = ""

    def __str__(self) -> str:
        return f"ssh://{self.user + '@' if self.user else ''}{self.host}:{self.port}"


def parse(url: str) -> Address:
    """`ssh://user@host[:port]` as an address.

    :raise UsageError: when it isn't one.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError(f"{url!r} is no SSH address", hint="write ssh://user@host or ssh://user@host:port")
    host = found["host"].strip("[]")
    return Address(host=host, port=int(found["port"] or 22), user=found["user"] or "")


def client_config(address: Address, alias: str, known_hosts: Path) -> str:
    """OpenSSH client configuration for `alias`, for programs that start `ssh` themselves (execnet does).

    With a pinned host key, `known_hosts` is written with it.
    """
    lines = [f"Host {alias}", f"  HostName {address.host}", f"  Port {address.port}"]
    if address.user:
        lines.append(f"  User {address.user}")
    if address.key:
        lines += [f'  IdentityFile "{address.key}"', "  IdentitiesOnly yes", "  IdentityAgent none"]
    if address.host_key:
        known_hosts.write_text(f"[{address.host}]:{address.port} {address.host_key}\n")
        lines += [f'  UserKnownHostsFile "{known_hosts}"', "  GlobalKnownHostsFile /dev/null"]
    lines += ["  StrictHostKeyChecking yes", "  BatchMode yes", "  LogLevel ERROR", "  ConnectTimeout 60"]
    lines += ["  ServerAliveInterval 15", "  ServerAliveCountMax 8", "  Compression no"]
    if not address.host_key:
        lines += ["Match all", "  Include ~/.ssh/config"]  # ssh -F leaves it out, and it may know this host
    return "\n".join(lines) + "\n"
