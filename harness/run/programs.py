"""Other people's programs in a pod: put there by name, run by the agent.

They come as archives over the agent's own link, so that a pod needs no further device, driver or image for
them, and the saved pod that all clones go on from stays as it is. They get a root of their own with their own
libraries, as a container does: the guest's are of another day's build.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.guest.client import AgentClient, Completed, Container
from harness.host.speed import slowness
from harness.image.store import Image
from harness.lab.keys import Keys
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import HarnessError, SystemFailure, UsageError
from harness.model.link import Endpoint

ROOT = "/programs"
"""Where they lie in the guest, which is their root."""

HOST = "pod"
"""What ssh calls the guest."""

_BUSYBOX = "/bin/busybox"
_PATH = {"PATH": "/usr/sbin:/usr/bin"}
_SECONDS = 30.0
"""For a step in a guest that takes half a second on a desktop core; multiplied by the host's slowness."""

_PREPARE = """
set -e
cd {root}
mkdir -p dev proc run/sshd tmp etc root
mount -t proc proc proc
mount -o bind /dev dev
"""


def install(agent: AgentClient, image: Image, names: Sequence[str], files: Mapping[str, bytes]) -> None:
    """Put programs of `image` into the guest of `agent`, whose link should be a fast one (10 to 30 MB).

    :param files: what else they find in their root, by path relative to it; for root's eyes only.
    :raise UsageError: the image has no program of that name.
    :raise SystemFailure: the guest can't unpack it; with its words.
    """
    archive = _merged([_archive(image, name) for name in names], files)
    _do(agent, [_BUSYBOX, "mkdir", "-p", ROOT])
    _do(agent, [_BUSYBOX, "tar", "-x", "-C", ROOT, "-f", "-"], archive)
    _do(agent, [_BUSYBOX, "sh", "-c", _PREPARE.format(root=ROOT)])


def sshd_files(pair: Keys) -> dict[str, bytes]:
    """What sshd needs beside itself: users, keys, a configuration without PAM."""
    options = ["HostKey /etc/ssh/host_key", "UsePAM no", "StrictModes no", "PasswordAuthentication no"]
    return {
        "etc/passwd": b"root:x:0:0:root:/root:/usr/bin/dash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/ssh/sshd_config": "\n".join([*options, ""]).encode(),
        "etc/ssh/host_key": pair.host.read_bytes(),
        "root/.ssh/authorized_keys": pair.user_public.encode(),
    }


def known_hosts(pair: Keys) -> Path:
    """A file by which ssh knows that sshd as `HOST`."""
    path = pair.host.with_name("known_hosts")
    path.write_text(f"{HOST} {pair.host_public}\n")
    return path


def command(argv: Sequence[str]) -> list[str]:
    """The words that run an installed program: `argv`, its own path in full, in its root."""
    return [_BUSYBOX, "chroot", ROOT, *argv]


@contextlib.contextmanager
def running(endpoint: Endpoint, argv: Sequence[str], log: Path) -> Iterator[Container]:
    """An installed program that runs while the `with` lasts; what it wrote is in `log` afterwards.

    When it listens it does not say. It has a client of the agent for itself, so `endpoint` should take many.

    :raise SystemFailure: when it has ended by itself at the end.
    """
    with AgentClient(connect(endpoint)) as agent:
        done: Completed | None = None
        failure: SystemFailure | None = None
        container = agent.start(command(argv), env=_PATH, deadline=_soon())
        try:
            yield container
        except SystemFailure as error:
            failure = error
            raise
        finally:
            # where the guest is gone there is nothing to fetch, and that is told already
            with contextlib.suppress(HarnessError, OSError):
                container.signal("SIGKILL", deadline=_soon())
                done = container.wait(deadline=_soon())
                log.write_bytes(done.stdout + done.stderr)
                if failure is not None:
                    failure.add_note(_words(argv, done))
        if done is not None and done.signal != "SIGKILL":
            raise SystemFailure(
                f"{argv[0]} ended by itself in the guest: code {done.code}, signal {done.signal}",
                detail=(done.stdout + done.stderr).decode(errors="replace")[-2000:],
            )


def _words(argv: Sequence[str], done: Completed) -> str:
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return f"{argv[0]} said: {said[-500:] or 'nothing'}"


def _soon() -> Deadline:
    return Deadline(_SECONDS * slowness())


def _do(agent: AgentClient, argv: list[str], stdin: bytes = b"") -> None:
    done = agent.run(argv, stdin=stdin, deadline=_soon())
    if done.code != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        how = f"code {done.code}, signal {done.signal}"
        raise SystemFailure(f"putting programs into a guest: {argv[1]} ended with {how}", detail=said)


def _archive(image: Image, name: str) -> Path:
    there = sorted(path.stem for path in image.path.glob("*.tar"))
    if name not in there:
        raise UsageError(f"no program is called {name!r}; there are: {', '.join(there)}")
    return image.file(f"{name}.tar")


def _merged(archives: Sequence[Path], files: Mapping[str, bytes]) -> bytes:
    """One archive of all, what several have in it once; `files` are readable for root alone."""
    out = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as merged:
        for archive in archives:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.name not in seen:
                        merged.addfile(member, tar.extractfile(member) if member.isreg() else None)
                    seen.add(member.name)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o600, len(data)
            merged.addfile(entry, io.BytesIO(data))
    return out.getvalue()
