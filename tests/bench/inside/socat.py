"""socat(1) as a yardstick: the host's program at both ends, sent into the guest with its libraries.

So it costs the guest image nothing, and both ends are of one version.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

from harness.guest.client import AgentClient, Container
from harness.host.speed import slowness
from harness.model.deadline import Deadline

PORT = 7000
THERE = "/tmp/socat"
_LOADER = Path("/lib64/ld-linux-x86-64.so.2")


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
