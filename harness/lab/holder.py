"""The process that holds a kept lab.

It is started by `harness.lab.keeping` as
``python -m harness.lab.holder MEMORY_MIB SAVED STATE KERNEL STARTER LOCK FOLDER``: SAVED is a saved lab, ""
for booting; STATE and KERNEL are of `harness.lab.state`; STARTER is its end of a socket to the command that
starts it, LOCK the file of `Keep.changing`. Over the socket goes, once, either that the lab is ready or why
it is not; if the starter ends before that, so does the lab. From then on nobody is needed: SIGTERM ends the
lab, and the lab's own end ends the holder.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from harness.host import paths
from harness.host.runfolder import RunFolder
from harness.image.store import Store
from harness.lab import keys, lab
from harness.lab.kept import Keep, Kept, ids
from harness.lab.lab import Lab, LabImages
from harness.lab.ssh import Ssh
from harness.lab.state import State, kernel_image
from harness.model.errors import HarnessError, HostUnfit
from harness.model.progress import Progress

READY = b"ready"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Booted(NamedTuple):
    """What a boot function of `hold` yields."""

    lab: Lab
    images: dict[str, str]
    memory_mib: int
    restored: bool = False
    state: State = State.LOADED


Boot = Callable[[RunFolder, Path], AbstractContextManager[Booted]]
"""Boots a lab within a run folder; its logs go to the given folder."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the lab is not ready, as the holder tells it."""

    unfit: str
    """The ability that the host lacks, "" if it is none of the host's faults."""
    summary: str
    hint: str
    detail: str


class _AskedToEnd(BaseException):
    """A signal asked for the end."""


def main(argv: Sequence[str]) -> int:
    """Hold a lab of MEMORY_MIB made of today's images; see the module's text."""
    memory_mib, saved, state, kernel, *rest = argv

    def wish() -> lab.Wish:
        """Of today's images. They are there: whoever starts a holder has built them."""
        return lab.Wish(
            images=images_of(Store(paths.cache_root()), kernel),
            pair=keys.ensure(paths.cache_root() / "keys"),
            memory_mib=int(memory_mib),
            state=State(state),
        )

    source = Path(saved) if saved else None
    return hold(rest, lambda folder, logs: _booted(wish(), source, folder, logs))


def images_of(store: Store, kernel: str, progress: Progress | None = None) -> LabImages:
    """Today's images of a lab with the kernel of this Debian release, built where they are missing.

    :raise HostUnfit, InfrastructureError: see `Store.get`.
    """
    name = kernel_image(kernel)
    names = ("qemu", "lab", *lab.GUESTS, *([name] if name else []))
    images = {one: store.get(one, progress) for one in names}
    return LabImages(
        qemu=images["qemu"],
        lab=images["lab"],
        guests=tuple(images[one] for one in lab.GUESTS),
        kernel=images[name] if name else None,
    )


@contextlib.contextmanager
def _booted(wish: lab.Wish, saved: Path | None, folder: RunFolder, logs: Path) -> Iterator[Booted]:
    with lab.up(wish, folder, log_folder=logs, saved=saved) as running:
        if saved is not None:
            with Ssh.connect(running.address) as ssh:
                lab.set_clock(ssh)
        yield Booted(running, ids(wish.images), wish.memory_mib, saved is not None, wish.state)


def hold(argv: Sequence[str], boot: Boot) -> int:
    """Be the holder of what `boot` boots, in a process of its own; the exit code.

    :param argv: STARTER, LOCK and FOLDER.
    """
    if os.fork():
        os._exit(0)
    starter, lock = socket.socket(fileno=int(argv[0])), int(argv[1])
    keep = Keep(Path(argv[2]))
    for number in _SIGNALS:
        signal.signal(number, _ask)
    told = threading.Event()
    threading.Thread(target=_follow, args=(starter, told), daemon=True).start()
    try:
        with _lab(keep, boot) as running:
            told.set()
            _tell(starter, READY)
            os.close(lock)
            _until_the_end_of(running.pid)
            _disarm()
            _say(f"the lab's QEMU (process {running.pid}) has ended")
    except _AskedToEnd as asked:
        notes = getattr(asked, "__notes__", [])
        _say("asked to end", *notes)
        return 1 if notes else 0
    except HarnessError as error:
        _disarm()
        _say(str(error), *getattr(error, "__notes__", []))
        if not told.is_set():
            told.set()
            ability = error.ability if isinstance(error, HostUnfit) else ""
            failure = Failure(unfit=ability, summary=error.summary, hint=error.hint, detail=error.detail)
            with contextlib.suppress(_AskedToEnd):
                _tell(starter, msgspec.json.encode(failure))
        return 1
    return 0


@contextlib.contextmanager
def _lab(keep: Keep, boot: Boot) -> Iterator[Lab]:
    """The lab, up and to be found."""
    with RunFolder.create() as folder, boot(folder, keep.logs) as booted:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        kept = Kept(
            lab=booted.lab,
            holder=os.getpid(),
            since=now,
            memory_mib=booted.memory_mib,
            images=booted.images,
            run_folder=folder.path,
            restored=booted.restored,
            state=booted.state,
        )
        with keep.published(kept):
            yield booted.lab


def _say(*lines: str) -> None:
    """A line for the holder's log, which is its standard error."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    sys.stderr.write("\n".join((f"{now} holder: {lines[0]}", *lines[1:])) + "\n")


def _ask(number: int, frame: object) -> NoReturn:
    _disarm()
    raise _AskedToEnd


def _disarm() -> None:
    """From now on the end is under way, and nothing may interrupt it but SIGKILL."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _follow(starter: socket.socket, told: threading.Event) -> None:
    """On a thread: the starter's end before it was told anything is a SIGTERM to the main thread."""
    with contextlib.suppress(OSError):
        starter.recv(1)
    if not told.is_set():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _tell(starter: socket.socket, what: bytes) -> None:
    """Tell the starter and let it go.

    :raise _AskedToEnd: it has gone.
    """
    try:
        starter.sendall(what)
        starter.shutdown(socket.SHUT_RDWR)
    except OSError:
        raise _AskedToEnd from None
    starter.close()


def _until_the_end_of(pid: int) -> None:
    """Return when the process has ended.

    :raise _AskedToEnd: at a signal, also one that comes just before poll(2) begins: it writes a byte, too.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    else:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            poll.poll()
        finally:
            os.close(pidfd)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
