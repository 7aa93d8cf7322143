"""SSH to a host: commands, files up, files down. The only user of paramiko."""

from __future__ import annotations

import base64
import contextlib
import logging
import secrets
import shlex
import socket
import tarfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec
import paramiko

from harness.host.archive import unpack
from harness.host.speed import slowness
from harness.lab import silence
from harness.lab.address import PORT, Address
from harness.lab.pushing import pushed
from harness.lab.way import Way
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError

_PATIENCE = 60.0
"""Seconds for a command, a step of the SSH handshake, or without a byte of what is sent or fetched;
multiplied by this machine's slowness. An emulated host takes two. Who does not answer then is given up, and
the connection ended: a host whose kernel hangs would keep it up for ever."""

_BANNER_WITHIN = 10.0
"""Seconds for a server's first line, once it took the connection; multiplied likewise."""

# what paramiko logs of a connection that breaks is a traceback; whoever asked is told by our error
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

_BROKEN = (paramiko.SSHException, OSError, EOFError)
"""What paramiko raises where a connection breaks."""

_STREAMED = 1 << 18
"""Bytes that are read or written at once."""


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
        client, patience = paramiko.SSHClient(), _PATIENCE * slowness()
        _know(client, address)
        way: Way | None = None
        try:
            if sock is None and address.via:
                way = Way(address.via)
                sock = way.sock
            elif sock is None and address.name:  # paramiko dials what it looks for in known_hosts
                sock = socket.create_connection((address.host, address.port), patience)
            keys = [str(path) for path in ([address.key] if address.key else address.keys)]
            client.connect(
                address.name or address.host,
                port=PORT if address.name else address.port,
                username=address.user or None,
                key_filename=cast(str, keys or None),  # several are allowed
                allow_agent=address.key is None and not address.only_keys,
                look_for_keys=not keys,
                timeout=patience,
                banner_timeout=_BANNER_WITHIN * slowness(),
                auth_timeout=patience,
                sock=sock,
            )
        except (paramiko.AuthenticationException, paramiko.BadHostKeyException) as error:
            _close(client, sock, way)
            raise HostUnfit(f"{address}: {error}", ability="ssh", hint=f"try: {address.by_hand}") from error
        except _BROKEN as error:
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

    @contextlib.contextmanager
    def _asking(self, what: str, seconds: float | None = None) -> Iterator[silence.Limit]:
        """Around all that waits for the host: `what` is being done, and nothing may move for so many seconds.

        :raise InfrastructureError: the connection broke, or was ended because they had passed.
        """
        transport = self._client.get_transport()
        assert transport is not None  # there is one from the connection's beginning to `close`
        limit = silence.limited(_PATIENCE * slowness() if seconds is None else seconds, transport.close)
        with limit as moving:
            try:
                yield moving
            except _BROKEN as error:
                why = f"no answer in {moving.seconds:.0f} s" if moving.passed else "connection lost"
                said = "" if moving.passed else f": {error or type(error).__name__}"
                raise InfrastructureError(f"{self.address}: {why} while {what}{said}") from error

    def run(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        deadline: Deadline | None = None,
    ) -> str:
        """Run a command there and return what it printed.

        :raise InfrastructureError: as `run_unchecked`, and when it ends with another code than 0.
        """
        done = self.run_unchecked(argv, env=env, stdin=stdin, deadline=deadline)
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
        """Run a command there, whatever its exit code is; -1 where a signal ended it.

        :param deadline: for all of it (by default `_PATIENCE` seconds); when it passes, the connection ends.
        :raise InfrastructureError: the connection broke or the deadline passed.
        """
        line = shlex.join([*(f"{key}={value}" for key, value in (env or {}).items())])
        line = f"env {line} {shlex.join(argv)}" if line else shlex.join(argv)
        with self._asking(f"it ran {argv[0]}", deadline.remaining() if deadline else None):
            writer, out, err = self._client.exec_command(line)
            writer.write(stdin)
            writer.channel.shutdown_write()
            # the commands that are run this way print little: one stream after the other can't block
            said, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
            return Done(self._status(out.channel), said, complained)

    def _status(self, channel: paramiko.Channel) -> int:
        """The exit code of what ran there; -1 where a signal ended it.

        :raise EOFError: the connection ended before it did.
        """
        code = channel.recv_exit_status()
        transport = channel.get_transport()
        if code == -1 and not transport.is_active():
            raise EOFError("it ended")
        return code

    def push(self, folder: Path, target: PurePosixPath, files: list[Path], *, only: bool = True) -> int:
        """Make `target` hold those `files` of `folder` (relative names), by SFTP; only what changed is sent.

        That is told by the hashes of what was sent before, so nobody else may write there. With `only`, what
        was sent before and is not among them is removed. Returns how many files were sent.

        :raise InfrastructureError: the connection broke, or something can't be written there.
        """
        with self._asking(f"sending {target}") as moving:
            self._sftp = self._sftp or self._client.open_sftp()
            return pushed(self._sftp, moving.moved, folder, target, files, only=only)

    def place(self, folder: Path, target: PurePosixPath, *, mark: str = "") -> bool:
        """Put the whole of `folder` there as `target`, unless that is there; whether it was sent.

        With `mark`, a small file in it that says which one it is, what is there with another is replaced. One
        stream, however many files; `target` has its name only when all of it has come.

        :raise InfrastructureError: the connection broke, or it can't be written there; with tar's words.
        """
        fresh, there = shlex.quote(f"{target}.{secrets.token_hex(4)}"), shlex.quote(str(target))
        if mark:
            data = (folder / mark).read_text()
            if self.run_unchecked(["cat", str(target / mark)]).out == data:
                return False
            same = f'test "$(cat {there}/{mark})" = "$(cat {fresh}/{mark})"'
        else:
            same = f"test -d {there}"
            if self.run_unchecked(["test", "-d", str(target)]).code == 0:
                return False
        # who was faster has put the same there
        swap = f"{{ test ! -d {there} || mv -T {there} {fresh}.old; }} && mv -T {fresh} {there}"
        line = f"mkdir -p {fresh} && tar -C {fresh} --no-same-owner -xf - && "
        line += f"{{ {same} 2>/dev/null || {{ {swap}; }} || {same}; }}"
        with self._asking(f"sending {target}") as moving:
            writer, _, err = self._client.exec_command(
                f"{line}; code=$?; rm -rf {fresh} {fresh}.old; exit $code"
            )
            with contextlib.suppress(OSError), writer:  # if the command ended early it says why
                stream = cast(IO[bytes], silence.Told(writer.write, moving))
                with tarfile.open(fileobj=stream, mode="w|", bufsize=_STREAMED) as tar:
                    tar.add(folder, arcname=".")
            said = err.read().decode(errors="replace").strip()
            code = self._status(err.channel)
        if code:
            raise InfrastructureError(f"{self.address}: sending {target}: {said or 'the connection broke'}")
        return True

    def fetch(self, source: PurePosixPath, folder: Path) -> None:
        """Bring the remote folder `source` home as `folder` (a tar stream: few round trips)."""
        with self._asking(f"fetching {source}") as moving:
            line = f"tar -C {shlex.quote(str(source))} -cf - ."
            _, out, err = self._client.exec_command(line)
            data = bytearray()
            while piece := out.channel.recv(_STREAMED):
                data += piece
                moving.moved()
            code, said = self._status(out.channel), err.read().decode(errors="replace")
        if code:
            raise InfrastructureError(f"{self.address}: fetching {source}: {said}")
        folder.mkdir(parents=True, exist_ok=True)
        unpack(bytes(data), folder)

    @contextlib.contextmanager
    def held_folder(self, folder: PurePosixPath) -> Iterator[None]:
        """An empty remote folder for the time of the `with`.

        A shell there holds it and removes it at the end of its input: also when the connection breaks, or
        this process is killed.
        """
        quoted = shlex.quote(str(folder))
        line = f"rm -rf {quoted} && mkdir -p {quoted} && echo held && cat >/dev/null; rm -rf {quoted}"
        with self._asking(f"making {folder}"):
            writer, out, err = self._client.exec_command(line)
            if out.readline().strip() != "held":
                said = err.read().decode(errors="replace")
                self._status(out.channel)
                raise InfrastructureError(f"{self.address}: no folder {folder}", detail=said)
        try:
            yield
        finally:
            # of what can't be removed, as its host is gone or hangs, the errors have been told
            with contextlib.suppress(InfrastructureError), self._asking(f"removing {folder}"):
                writer.channel.shutdown_write()
                out.channel.status_event.wait()


def _know(client: paramiko.SSHClient, address: Address) -> None:
    """Have it accept the host's keys that are known, and no other."""
    if address.host_key:
        kind, data = address.host_key.split()
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(data))
        client.get_host_keys().add(address.known_as, kind, key)
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
