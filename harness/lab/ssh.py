"""SSH to a host: commands, files up, files down. The only user of paramiko."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shlex
import socket
import stat
import tarfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec
import paramiko

from harness.host.archive import unpack
from harness.lab.address import Address
from harness.lab.way import Way
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError

_SSH_PORT = 22
"""Known by its host's name alone (paramiko, as OpenSSH)."""

_TIMEOUT = 60.0
"""Seconds for one step of the SSH handshake; an emulated host takes two."""

_STREAMED = 1 << 18
"""Bytes of a whole folder that are written at once."""


def answers(address: Address, deadline: Deadline) -> bool:
    """Whether an SSH server speaks there. A machine whose kernel has died may still accept connections."""
    try:
        with socket.create_connection((address.host, address.port), deadline.remaining()) as peer:
            peer.settimeout(deadline.remaining() or 0.001)
            return peer.recv(4) == b"SSH-"
    except OSError:
        return False


class Done(msgspec.Struct, frozen=True):
    """A command that ended."""

    code: int
    out: str
    err: str


class Ssh:
    """One connection to a host; `Ssh.connect` makes it, leaving the `with` closes it."""

    def __init__(self, address: Address, client: paramiko.SSHClient, way: Way | None = None) -> None:
        self.address = address
        self._way = way
        self._client = client
        self._sftp: paramiko.SFTPClient | None = None

    @classmethod
    def connect(cls, address: Address, sock: socket.socket | None = None) -> Ssh:
        """Connect and authenticate.

        :param sock: a connected socket to speak over, which is closed in any case; then `address` only says
            whose keys these are.
        :raise HostUnfit: when the host refuses the user, or shows another host key than the pinned one.
        :raise InfrastructureError: when nothing answers there.
        """
        client = paramiko.SSHClient()
        _know(client, address)
        way: Way | None = None
        try:
            if sock is None and address.via:
                way = Way(address.via)
                sock = way.sock
            elif sock is None and address.name:  # paramiko dials what it looks for in known_hosts
                sock = socket.create_connection((address.host, address.port), _TIMEOUT)
            keys = [str(path) for path in ([address.key] if address.key else address.keys)]
            client.connect(
                address.name or address.host,
                port=_SSH_PORT if address.name else address.port,
                username=address.user or None,
                key_filename=cast(str, keys or None),  # several are allowed
                allow_agent=address.key is None and not address.only_keys,
                look_for_keys=not keys,
                timeout=_TIMEOUT,
                banner_timeout=_TIMEOUT,
                auth_timeout=_TIMEOUT,
                sock=sock,
            )
        except (paramiko.AuthenticationException, paramiko.BadHostKeyException) as error:
            _close(client, sock, way)
            raise HostUnfit(f"{address}: {error}", ability="ssh", hint=f"try: {address.by_hand}") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            _close(client, sock, way)
            raise InfrastructureError(
                f"{address}: no SSH: {str(error).removeprefix('[Errno None] ')}",
                hint="" if address.key else f"try: {address.by_hand}",
            ) from error
        return cls(address, client, way)

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and with it what runs over it."""
        _close(self._client, None, self._way)

    def run(self, argv: list[str], *, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
        """Run a command there and return what it printed.

        :raise InfrastructureError: when it ends with another code than 0, or the connection breaks.
        """
        done = self.run_unchecked(argv, env=env, stdin=stdin)
        if done.code:
            raise InfrastructureError(
                f"{self.address}: {argv[0]} ended with {done.code}",
                detail=f"{shlex.join(argv)}\n{(done.out + done.err)[-3000:]}",
            )
        return done.out

    def run_unchecked(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        deadline: Deadline | None = None,
    ) -> Done:
        """As `run`, whatever the command's exit code; -1 where a signal ended it."""
        line = shlex.join([*(f"{key}={value}" for key, value in (env or {}).items())])
        line = f"env {line} {shlex.join(argv)}" if line else shlex.join(argv)
        try:
            timeout = deadline.remaining() if deadline else None
            writer, out, err = self._client.exec_command(line, timeout=timeout)
            writer.write(stdin)
            writer.channel.shutdown_write()
            # the commands that are run this way print little: one stream after the other can't block
            said, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
            return Done(out.channel.recv_exit_status(), said, complained)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise InfrastructureError(
                f"{self.address}: connection lost while it ran {argv[0]}: {error}"
            ) from error

    def push(self, folder: Path, target: PurePosixPath, files: list[Path], *, only: bool = True) -> int:
        """Make `target` hold those `files` of `folder` (relative names); only what changed is sent.

        A file counts as unchanged when size and modification time (in whole seconds) agree. With `only`, what
        else is in `target` is removed, but for `__pycache__`. Returns how many files were sent.
        """
        sftp = self._open_sftp()
        there = dict(_remote_files(sftp, target))
        made: set[PurePosixPath] = set()
        sent = 0
        for name in files:
            source, remote = folder / name, target / name
            found = source.stat()
            known = there.pop(PurePosixPath(name), None)
            if known == (found.st_size, int(found.st_mtime)):
                continue
            _make_folders(sftp, remote.parent, made)
            self._put(sftp, source, found, remote)
            sent += 1
        for gone in there if only else ():
            sftp.remove(str(target / gone))
        return sent

    def _put(
        self, sftp: paramiko.SFTPClient, source: Path, found: os.stat_result, remote: PurePosixPath
    ) -> None:
        """Send one file with its mode and time; it has its name only when it is whole."""
        fresh = f"{remote}.new"
        try:
            sftp.put(str(source), fresh, confirm=False)
            sftp.chmod(fresh, stat.S_IMODE(found.st_mode))
            sftp.utime(fresh, (found.st_mtime, found.st_mtime))
            sftp.posix_rename(fresh, str(remote))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise InfrastructureError(f"{self.address}: sending {remote}: {error}") from error

    def place(self, folder: Path, target: PurePosixPath) -> bool:
        """Put the whole of `folder` there as `target`, unless that is there; whether it was sent.

        One stream, however many files; `target` has its name only when all of it has come.
        """
        if self.run_unchecked(["test", "-d", str(target)]).code == 0:
            return False
        fresh, there = shlex.quote(f"{target}.{secrets.token_hex(4)}"), shlex.quote(str(target))
        # who was faster has put the same there
        line = f"mkdir -p {fresh} && tar -C {fresh} --no-same-owner -xf - && "
        line += f"{{ mv -T {fresh} {there} || test -d {there}; }}"
        try:
            writer, _, err = self._client.exec_command(f"{line}; code=$?; rm -rf {fresh}; exit $code")
            with contextlib.suppress(OSError), writer:  # if the command ended early it says why
                stream = cast(IO[bytes], writer)
                with tarfile.open(fileobj=stream, mode="w|", bufsize=_STREAMED) as tar:
                    tar.add(folder, arcname=".")
            said = err.read().decode(errors="replace").strip()
            code = err.channel.recv_exit_status()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise InfrastructureError(f"{self.address}: sending {target}: {error}") from error
        if code:
            raise InfrastructureError(f"{self.address}: sending {target}: {said or 'the connection broke'}")
        return True

    def fetch(self, source: PurePosixPath, folder: Path) -> None:
        """Bring the remote folder `source` home as `folder` (a tar stream: few round trips)."""
        try:
            line = f"tar -C {shlex.quote(str(source))} -cf - ."
            _, out, err = self._client.exec_command(line, timeout=_TIMEOUT)
            data = out.read()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise InfrastructureError(
                f"{self.address}: connection lost while fetching {source}: {error}"
            ) from error
        if out.channel.recv_exit_status():
            raise InfrastructureError(
                f"{self.address}: fetching {source}: {err.read().decode(errors='replace')}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        unpack(data, folder)

    @contextlib.contextmanager
    def held_folder(self, folder: PurePosixPath) -> Iterator[None]:
        """An empty remote folder for the time of the `with`.

        A shell there holds it and removes it at the end of its input: also when the connection breaks, or
        this process is killed.
        """
        quoted = shlex.quote(str(folder))
        line = f"rm -rf {quoted} && mkdir -p {quoted} && echo held && cat >/dev/null; rm -rf {quoted}"
        writer, out, err = self._client.exec_command(line)
        if out.readline().strip() != "held":
            raise InfrastructureError(
                f"{self.address}: no folder {folder}", detail=err.read().decode(errors="replace")
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError, EOFError):
                writer.channel.shutdown_write()
            out.channel.status_event.wait(_TIMEOUT)  # a kernel that hangs never says

    def _open_sftp(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            try:
                self._sftp = self._client.open_sftp()
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise InfrastructureError(f"{self.address}: no SFTP: {error}") from error
        return self._sftp


def _know(client: paramiko.SSHClient, address: Address) -> None:
    """Have it accept the host's keys that are known, and no other."""
    if address.host_key:
        kind, data = address.host_key.split()
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(data))
        name = address.host if address.port == _SSH_PORT else f"[{address.host}]:{address.port}"
        client.get_host_keys().add(name, kind, key)
    elif address.known_hosts:
        for path in address.known_hosts:
            client.load_system_host_keys(str(path))
    else:
        client.load_system_host_keys()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())


def _close(client: paramiko.SSHClient, sock: socket.socket | None, way: Way | None) -> None:
    client.close()
    if sock is not None:
        sock.close()
    if way is not None:
        way.close()


def _remote_files(
    sftp: paramiko.SFTPClient, root: PurePosixPath, inside: str = ""
) -> Iterator[tuple[PurePosixPath, tuple[int, int]]]:
    """Relative name, size and whole-second mtime of each remote file; nothing if `root` isn't there."""
    try:
        found = sftp.listdir_attr(str(root / inside))
    except FileNotFoundError:
        return
    for item in found:
        name = PurePosixPath(inside, item.filename)
        if item.st_mode is not None and stat.S_ISDIR(item.st_mode):
            if item.filename != "__pycache__":
                yield from _remote_files(sftp, root, str(name))
        else:
            yield name, (item.st_size or 0, int(item.st_mtime or 0))


def _make_folders(sftp: paramiko.SFTPClient, folder: PurePosixPath, made: set[PurePosixPath]) -> None:
    for part in [*reversed(folder.parents), folder]:
        if part not in made:
            with contextlib.suppress(OSError):
                sftp.mkdir(str(part))
            made.add(part)
