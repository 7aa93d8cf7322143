"""socat(1) as a yardstick: the host's program at both ends, sent into the guest with its libraries.

So it costs the guest image nothing, and both ends are of one version.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.guest.client import AgentClient, Container
from harness.host.speed import slowness
from harness.model.deadline import Deadline, until

PORT = 7000
THERE = "/tmp/socat"
_LOADER = Path("/lib64/ld-linux-x86-64.so.2")


class Port(NamedTuple):
    """A serial port that nobody else has: the guest's device, the host's socket, whether it is a tty."""

    device: str
    path: Path
    is_tty: bool

    @property
    def opened(self) -> str:
        """The guest's end as a socat address."""
        return f"OPEN:{self.device}{',rawer' if self.is_tty else ''}"


class NoSocat(Exception):
    """This host has none; the text says so."""


def send(agent: AgentClient) -> None:
    """Put the host's socat into the guest.

    :raise NoSocat: if the host has none.
    """
    program = shutil.which("socat")
    if program is None:
        raise NoSocat("socat is not installed on the host where VMs run")
    listed = subprocess.run([_LOADER, "--list", program], capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in listed.splitlines()]
    libraries = [line[2] for line in words if "=>" in line]
    files = {path.rsplit("/", 1)[-1]: path for path in (program, *libraries, str(_LOADER))}
    for name, path in files.items():
        script = f"mkdir -p {THERE} && cat >{THERE}/{name} && chmod 755 {THERE}/{name}"
        done = agent.run(["sh", "-c", script], stdin=Path(path).read_bytes(), deadline=_soon())
        assert done.code == 0, done.stderr


def _guest(agent: AgentClient, *arguments: str) -> Container:
    loader = [f"{THERE}/{_LOADER.name}", "--library-path", THERE, f"{THERE}/socat"]
    return agent.start([*loader, *arguments], deadline=_soon())


def to_guest(agent: AgentClient, cid: int, total: int, block: int) -> float:
    """Seconds for `total` zeros in writes of `block` bytes, up to the guest's having read them all."""
    swallow = _guest(agent, "-u", "-b", str(block), f"VSOCK-LISTEN:{PORT}", "OPEN:/dev/null")
    # not -u: it waits for the guest's end to close as well
    source = f"OPEN:/dev/zero,readbytes={total}!!OPEN:/dev/null"
    return _timed(["-t", "600", "-b", str(block), source, _dial(cid)], swallow)


def from_guest(agent: AgentClient, cid: int, total: int, block: int) -> float:
    """Seconds for `total` zeros in writes of `block` bytes, up to their end here."""
    pour = _guest(agent, "-u", "-b", str(block), f"OPEN:/dev/zero,readbytes={total}", f"VSOCK-LISTEN:{PORT}")
    return _timed(["-u", "-b", str(block), _dial(cid), "OPEN:/dev/null"], pour)


def _dial(cid: int) -> str:
    return f"VSOCK-CONNECT:{cid}:{PORT},retry=600,interval=0.1"  # until the guest's end listens


def to_port(agent: AgentClient, port: Port, total: int, block: int) -> float:
    """Seconds for `total` zeros into the host's end of a serial port, up to the end of the guest's socat.

    That has read them all by then; its end takes some milliseconds more.
    """
    # not -u, and nothing shut down: QEMU drops what it has not passed on when its client leaves
    host = ["-t", "600", "-b", str(block), "STDIN!!OPEN:/dev/null", f"UNIX-CONNECT:{port.path},shut-none"]
    with _host(*host) as process:
        # one that opens a virtio-serial port before the host's end is there reads the end of a file
        swallow = _guest(agent, "-u", "-b", str(block), f"{port.opened},readbytes={total}", "OPEN:/dev/null")
        # what a UART gets before it is open is lost
        until(lambda: _has_open(agent, swallow.pid, port.device), _soon(), "the guest's socat has the port")
        assert process.stdin is not None
        begun = time.monotonic()
        process.stdin.write("\0" * total)
        process.stdin.flush()
        assert swallow.wait(deadline=_soon()).code == 0
        return time.monotonic() - begun


def from_port(agent: AgentClient, port: Port, total: int, block: int) -> float:
    """Seconds for `total` zeros out of a serial port, from the first that come here to the last."""
    sink = ["-u", "-b", str(block), f"UNIX-CONNECT:{port.path},readbytes={total}", "OPEN:/dev/null"]
    with _host(*sink) as process:
        pour = _guest(agent, "-u", "-b", str(block), f"OPEN:/dev/zero,readbytes={total}", port.opened)
        assert process.stderr is not None
        moved = [_time(line) for line in process.stderr if " transferred " in line]
    assert pour.wait(deadline=_soon()).code == 0
    return (moved[-1] - moved[0]).total_seconds()


def _has_open(agent: AgentClient, pid: int, device: str) -> bool:
    look = f"ls -l /proc/{pid}/fd | grep -q '{device}$'"
    return agent.run(["sh", "-c", look], deadline=_soon()).code == 0


@contextlib.contextmanager
def _host(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The host's end once it is connected, with its log as stderr; killed afterwards."""
    argv = ["socat", "-d", "-d", "-d", "-lu", *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if "starting data transfer loop" in line)
            yield process
        finally:
            process.kill()


def _timed(arguments: list[str], other: Container) -> float:
    """Run the host's end; seconds from its first transfer to its last EOF, by its own log (-d -d -lu).

    Starting a program takes longer on an emulated host than moving a mebibyte, and is not what is measured.
    """
    done = subprocess.run(
        ["socat", "-d", "-d", "-lu", *arguments], capture_output=True, text=True, check=True
    )
    end = other.wait(deadline=_soon())
    assert end.code == 0, end.stderr
    lines = done.stderr.splitlines()
    begun = next(line for line in lines if "starting data transfer loop" in line)
    ended = next(line for line in reversed(lines) if "is at EOF" in line)
    return (_time(ended) - _time(begun)).total_seconds()


def _time(line: str) -> datetime.datetime:
    return datetime.datetime.strptime(" ".join(line.split()[:2]), "%Y/%m/%d %H:%M:%S.%f")


def _soon() -> Deadline:
    return Deadline(60 * slowness())
