"""What OpenSSH's client configuration says of a host: paramiko does not read it, and users have it there."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.lab.address import Address, split
from harness.model.errors import HostUnfit, InfrastructureError, UsageError

_SECONDS = 20.0


def program() -> str:
    """The OpenSSH client of this machine.

    :raise HostUnfit: there is none; the hint is the command that installs it.
    """
    found = shutil.which("ssh")
    if found is None:
        raise HostUnfit(
            "ssh is not installed",
            ability="ssh-client",
            hint="sudo apt-get install --no-install-recommends openssh-client",
        )
    return found


def resolved(url: str, config: Path | None = None) -> Address:
    """The address that `ssh` itself would go to for `url`: real name, port, user, keys, known hosts, jump.

    :param config: a client configuration instead of the user's own (ssh -F).
    :raise UsageError: `url` is no address, or the configuration is not to be read.
    :raise HostUnfit: there is no OpenSSH client here, which workers are reached by.
    :raise InfrastructureError: it does not say.
    """
    host, port, user = split(url)
    ssh = program()
    argv = [ssh, *(["-F", str(config)] if config else []), *(["-p", str(port)] if port else [])]
    argv += [*(["-l", user] if user else []), "-G", "--", host]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        # `Match exec` in a configuration runs what it likes
        raise InfrastructureError(
            f"--host {url}: no answer in {_SECONDS:.0f} s", hint=f"try: {' '.join(argv)}"
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ssh -G ended with {done.returncode}"]
        raise UsageError(f"--host {url}: {said[0]}", hint=f"try: {' '.join(argv)}")
    return address(host, settings(done.stdout), config)


def settings(text: str) -> dict[str, list[str]]:
    """What `ssh -G` prints: each keyword's values in their order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword].append(value)
    return found


def address(asked: str, found: Mapping[str, Sequence[str]], config: Path | None) -> Address:
    """What these settings make of the host `asked` for. Files that are not there are left out."""

    def only(keyword: str) -> str:
        value = found.get(keyword, [""])[0]
        return "" if value == "none" else value

    port, user, host = int(only("port") or 22), only("user"), only("hostname") or asked
    names = [word for line in found.get("userknownhostsfile", ()) for word in line.split()]
    names += [word for line in found.get("globalknownhostsfile", ()) for word in line.split()]
    via = only("proxycommand")
    if jump := only("proxyjump"):
        via = f"ssh {f'-F {config} ' if config else ''}-W '[%h]:%p' {jump}"
    tokens = {"%h": host, "%p": str(port), "%r": user, "%n": asked, "%%": "%"}
    return Address(
        host=host,
        port=port,
        user=user,
        config=config,
        keys=_there(found.get("identityfile", ())),
        only_keys=only("identitiesonly") == "yes",
        known_hosts=_there(names),
        name=only("hostkeyalias"),
        via=_replaced(via, tokens),
    )


def _there(names: Sequence[str]) -> tuple[Path, ...]:
    paths = (Path(name.strip('"')).expanduser() for name in names if name.lower() != "none")
    return tuple(path for path in paths if path.is_file())


def _replaced(line: str, tokens: Mapping[str, str]) -> str:
    """`line` with each token that it has in it replaced, one pass from left to right."""
    made, at = "", 0
    while at < len(line):
        token = line[at : at + 2]
        made += tokens.get(token, line[at])
        at += 2 if token in tokens else 1
    return made
