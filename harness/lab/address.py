"""Where a host is reached by SSH."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec

from harness.model.errors import UsageError

HOSTS = ("auto", "local", "lab", "none")
"""What `--host` may be besides an address."""

_URL = re.compile(r"ssh://(?:(?P<user>[^@/:]+)@)?(?P<host>\[[^\]]+\]|[^:/@]+)(?::(?P<port>\d+))?/?")


PORT = 22
"""SSH's own (services(5))."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A host reached by SSH.

    `key` is a private key's path, None for what the user's agent and ~/.ssh offer. `host_key` is the one
    accepted key ("type base64"), empty for the user's known_hosts.

    The others are what OpenSSH's configuration says of a host that the user named (`harness.lab.openssh`):
    the file `config` if it is not the user's own, further `keys`, whether only these are offered, files of
    `known_hosts`, under which `name` the host is in them if not its own, and the command `via` whose streams
    lead there.
    """

    host: str
    port: int = 22
    user: str = ""
    key: Path | None = None
    host_key: str = ""
    config: Path | None = None
    keys: tuple[Path, ...] = ()
    only_keys: bool = False
    known_hosts: tuple[Path, ...] = ()
    name: str = ""
    via: str = ""

    def __str__(self) -> str:
        return f"ssh://{self.user + '@' if self.user else ''}{self.host}:{self.port}"

    @property
    def known_as(self) -> str:
        """What it is called in known_hosts, sshd(8): with its port only if that is another than SSH's own."""
        return self.host if self.port == PORT else f"[{self.host}]:{self.port}"

    @property
    def by_hand(self) -> str:
        """A command that shows what OpenSSH's own client makes of it; it asks about unknown host keys."""
        config = f"-F {shlex.quote(str(self.config))} " if self.config else ""
        user = f"{self.user}@" if self.user else ""
        return f"ssh {config}-p {self.port} {user}{self.host} true"


def asked(options: Iterable[str]) -> list[str]:
    """The hosts that `--host` asks for; `["auto"]` if none was.

    :raise UsageError: for an unknown word, or a mixture that makes no sense.
    """
    wanted = list(options) or ["auto"]
    for word in wanted:
        if word in HOSTS:
            continue
        if not word.startswith("ssh://"):
            near = difflib.get_close_matches(word, HOSTS, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"--host {shlex.quote(word)}: unknown{guess}",
                hint="auto, local, lab, none or ssh://user@host[:port]",
            )
        parse(word)
    if len(wanted) > 1 and any(word in HOSTS for word in wanted):
        raise UsageError(f"--host {' --host '.join(wanted)}: only ssh:// hosts can be given together")
    return wanted


def parse(url: str) -> Address:
    """`ssh://user@host[:port]` as an address.

    :raise UsageError: when it isn't one.
    """
    host, port, user = split(url)
    return Address(host=host, port=port or PORT, user=user)


def split(url: str) -> tuple[str, int, str]:
    """Host, port and user as `url` has them; 0 and "" where it says nothing.

    :raise UsageError: when it is no `ssh://user@host[:port]`.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError(f"{url!r} is no SSH address", hint="write ssh://user@host or ssh://user@host:port")
    port = int(found["port"] or 0)
    if found["port"] and not 0 < port < 1 << 16:
        raise UsageError(f"{url!r}: no port {port}", hint="ports are 1 to 65535")
    return found["host"].strip("[]"), port, found["user"] or ""


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
        known_hosts.write_text(f"{address.known_as} {address.host_key}\n")
        lines += [f'  UserKnownHostsFile "{known_hosts}"', "  GlobalKnownHostsFile /dev/null"]
    lines += [f'  IdentityFile "{path}"' for path in address.keys]
    lines += ["  IdentitiesOnly yes"] if address.only_keys else []
    if address.known_hosts:
        lines += ["  UserKnownHostsFile " + " ".join(f'"{path}"' for path in address.known_hosts)]
    lines += [f"  HostKeyAlias {address.name}"] if address.name else []
    lines += [f"  ProxyCommand {address.via.replace('%', '%%')}"] if address.via else []
    lines += ["  StrictHostKeyChecking yes", "  BatchMode yes", "  LogLevel ERROR", "  ConnectTimeout 60"]
    lines += ["  ServerAliveInterval 15", "  ServerAliveCountMax 8", "  Compression no"]
    if not address.host_key:
        # ssh -F leaves the user's own out, and it may have something to say of all hosts
        lines += [
            "Match all",
            f'  Include "{address.config}"' if address.config else "  Include ~/.ssh/config",
        ]
    return "\n".join(lines) + "\n"
