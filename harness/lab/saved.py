"""Saved labs: booted once, made ready for workers, and from then on restored in a second by every run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

from harness.host import depot
from harness.host.depot import Depot, Limits
from harness.host.kernel import cpu
from harness.host.paths import cache_root
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.lab import deploy, lab
from harness.lab.lab import Lab, Wish
from harness.lab.ssh import Ssh
from harness.model.deadline import Deadline
from harness.model.errors import InfrastructureError
from harness.model.progress import Progress
from harness.model.spec import Accel

LIMITS = Limits(bytes=6 << 30)
"""A saved lab takes some 830 MiB on disk, of its 4 GiB of memory."""

NEEDED_MIB = 2560
"""Disk that must be free before one is made: QEMU dies of SIGBUS where its memory's file can't grow."""

_READY_SECONDS = 600.0
"""For what is done in a lab before it is saved, which takes an emulated one 30 s on a desktop core, and two
minutes where its guest is a distribution's own; multiplied by this machine's slowness. Other runs wait."""

_FORMAT = 4
"""Counts up when what is done in a lab before it is saved changes."""


def labs() -> Depot:
    """Where this user's saved labs are."""
    return Depot(cache_root() / "labs", LIMITS)


def key(wish: Wish, template: str) -> str:
    """What a saved lab is kept under: images, keys, command line, and the `template` that it shall hold.

    Our code is none of it, but for what `template` (`harness.run.templates.recipe`) says of the agent: a
    restored lab gets the code that differs.
    """
    words = [str(_FORMAT), template, *(image.contents for image in wish.images.all)]
    words += [wish.pair.user_public, wish.pair.host_public, *lab.command_line(wish)]
    if wish.accel is Accel.KVM:  # with -cpu host, the CPU is in the saved state
        words += [platform.release(), cpu()]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@contextlib.contextmanager
def held(wish: Wish, identity: str, folder: RunFolder, logs: Path, progress: Progress) -> Iterator[Path]:
    """The folder of the saved lab `identity`, which is made first if there is none.

    It stays there for the time of the `with`. One that another process is making is waited for.

    :raise HostUnfit, InfrastructureError: it can't be made.
    """
    while True:
        with labs().using(identity) as found:
            if found is not None:
                yield found
                return
        words = "" if wish.guest == lab.GUESTS[0] else f", with guest {wish.guest}"
        with progress.stage(f"lab: saving one for all runs{words}"), labs().making(identity) as scratch:
            if scratch is not None:
                _check_room(scratch)
                lab.save(
                    wish,
                    folder,
                    log_folder=logs,
                    target=scratch,
                    prepare=functools.partial(_prepare, wish.guest),
                )


def _check_room(scratch: Path) -> None:
    free = depot.free_bytes(scratch) >> 20
    if free < NEEDED_MIB:
        raise InfrastructureError(
            f"a lab can't be saved: {free} MiB are free in {scratch.parent}, {NEEDED_MIB} are needed",
            hint="vsock-harness images prune",
        )


def _prepare(guest: str, running: Lab) -> None:
    """Our code, warm interpreters and a template of `guest` into the lab, over a connection that is closed
    then."""
    layout = deploy.LAB
    with Ssh.connect(running.address) as ssh:
        deploy.send_code(ssh, layout.code)
        environment = {"PYTHONPATH": f"{layout.site}:{layout.code}", "PYTEST_PLUGINS": "harness.plugin"}
        argv = ["python3", "-m", "harness.plugin.ready", str(layout.images), deploy.code_digest(), guest]
        ssh.run(argv, env=environment, deadline=Deadline(_READY_SECONDS * slowness()))
