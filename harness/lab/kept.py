"""A kept lab: one that outlives the command that booted it, until told to end.

A process of its own, the holder (`harness.lab.holder`), boots the lab and holds it. All about it lies in one
folder of the cache:

* ``state.json``, there while the lab answers. The holder has it locked (flock(2)) since before it had that
  name: a file that nobody holds is a dead holder's, and is never taken for a lab.
* ``changing.lock``, held by whoever boots or ends a lab, the holder included until its lab is ready.
* ``used.lock``, held by the run that has its worker in the lab, and by who ends a lab that none has.
* ``holder.log``, ``logs/`` (console, QMP transcript), ``ssh_config`` and ``known_hosts``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from harness.host.flocks import held, taken
from harness.host.paths import Cache, cache_root
from harness.lab.address import client_config
from harness.lab.lab import Lab, LabImages
from harness.lab.ssh import answers
from harness.lab.state import OWN_KERNEL, State, kernel_image, kernels
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed, InfrastructureError

ALIAS = "lab"
"""What the kept lab is called in its OpenSSH client configuration."""

_ANSWERS_WITHIN = 20.0
"""Seconds for an SSH banner, which takes an emulated lab that works hard one."""

_LOOKS_TAKE = 0.5
"""Seconds to try for a lock that a mere look may hold for a moment."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A lab that is up, and who holds it.

    `since` is UTC, ISO 8601; `images` are ids by name; `restored`: from a saved lab, with what that holds.
    With another kernel than the lab's own, its image is among them.
    """

    lab: Lab
    holder: int
    since: str
    memory_mib: int
    images: dict[str, str]
    run_folder: Path
    restored: bool = False
    state: State = State.LOADED

    @property
    def kernel(self) -> str:
        """The Debian release that its kernel is of."""
        return next((name for name in kernels() if kernel_image(name) in self.images), OWN_KERNEL)

    def answers(self) -> bool:
        """Whether its SSH server speaks. A lab whose kernel has died may still have its QEMU."""
        return answers(self.lab.address, Deadline(_ANSWERS_WITHIN))


class Loan(msgspec.Struct, frozen=True):
    """What a run gets that asks for the kept lab: the lab, or None; and why, in a few words."""

    lab: Lab | None
    reason: str
    restored: bool = False


class Keep:
    """The place of the kept lab. One user has at most one."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is by default the folder ``lab`` of the cache. Makes nothing."""
        self.root = cache_root() / "lab" if root is None else root
        self.logs = self.root / "logs"
        self.log = self.root / "holder.log"
        self.ssh_config = self.root / "ssh_config"
        self._state = self.root / "state.json"

    def make(self) -> None:
        """Make the folder, readable by nobody else.

        :raise InfrastructureError: when it can't be made.
        """
        Cache(self.root.parent).folder(self.root.name)

    def find(self) -> Kept | None:
        """The lab that is up now, by its holder's lock; None if there is none.

        :raise InfrastructureError: when another version of this program holds one.
        """
        try:
            file = self._state.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            if not held(file):
                return None
            data = file.read()
        try:
            return msgspec.json.decode(data, type=Kept, dec_hook=_decode)
        except msgspec.MsgspecError as error:
            raise InfrastructureError(
                f"the lab of {self._state} was made by another version: {error}",
                hint=f"end it: kill {_holder(data)}",
            ) from error

    @contextlib.contextmanager
    def published(self, kept: Kept) -> Iterator[None]:
        """For the holder: `find` finds `kept` for the time of the `with`, and not once this process ends."""
        config = client_config(kept.lab.address, ALIAS, self.root / "known_hosts")
        self.ssh_config.write_text(config)
        number, name = tempfile.mkstemp(dir=self.root, prefix="state-")
        with os.fdopen(number, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(msgspec.json.encode(kept, enc_hook=str))
            file.flush()
            Path(name).rename(self._state)
            try:
                yield
            finally:
                self._state.unlink(missing_ok=True)

    @contextlib.contextmanager
    def changing(self) -> Iterator[IO[str]]:
        """Nobody else boots or ends a lab meanwhile; waits for those who do. The lock can be passed on.

        :raise InfrastructureError: when the folder can't be made.
        """
        self.make()
        with (self.root / "changing.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock

    def is_changing(self) -> bool:
        """Whether somebody boots or ends a lab right now."""
        try:
            with (self.root / "changing.lock").open() as lock:
                return held(lock)
        except OSError:
            return False

    @contextlib.contextmanager
    def borrowed(self, images: LabImages) -> Iterator[Loan]:
        """The kept lab for one run, if it is up with these images, answers, and no other run has it.

        :raise InfrastructureError: as `find`.
        """
        kept = self.find()
        if kept is None:
            yield Loan(None, "no lab is kept")
        elif kept.state is not State.LOADED or kept.kernel != OWN_KERNEL:
            words = f"the kept lab has state {kept.state}, kernel {kept.kernel}"
            yield Loan(None, f"{words} (vsock-harness lab up --fresh)")
        elif kept.images != ids(images) or any(image.manifest.built > kept.since for image in images.all):
            yield Loan(None, "the kept lab has older images (vsock-harness lab up --fresh)")
        elif not kept.answers():
            yield Loan(None, "the kept lab does not answer (vsock-harness lab up --fresh)")
        else:
            with self._used() as lock:
                if lock is None:
                    yield Loan(None, "another run uses the kept lab")
                elif self.find() != kept:
                    yield Loan(None, "the kept lab has just ended")
                else:
                    lock.write(str(os.getpid()))
                    lock.flush()
                    yield Loan(kept.lab, f"kept since {kept.since}", kept.restored)

    @contextlib.contextmanager
    def unlent(self) -> Iterator[int | None]:
        """For who ends the lab: None, and no run borrows it meanwhile; or the process of the run that has."""
        with self._used() as lock:
            yield None if lock else self.user() or 0

    @contextlib.contextmanager
    def _used(self) -> Iterator[IO[str] | None]:
        """The lock of who uses the lab, and nothing in it; None if another has it."""
        number = os.open(self.root / "used.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "r+") as lock:
            try:
                until(lambda: taken(lock), Deadline(_LOOKS_TAKE), "the kept lab")
            except DeadlinePassed:
                yield None
            else:
                lock.truncate(0)
                yield lock

    def user(self) -> int | None:
        """The process that has borrowed the lab, None if nobody has."""
        try:
            with (self.root / "used.lock").open() as lock:
                word = lock.read() if held(lock) else ""
        except OSError:
            return None
        return int(word) if word.isdecimal() else None

    def clean(self) -> None:
        """Remove what a lab that has ended left here; `changing` must be held, and no lab be up."""
        for path in (self._state, self.ssh_config, self.root / "known_hosts", self.log):
            path.unlink(missing_ok=True)
        for path in self.root.glob("state-*"):
            path.unlink(missing_ok=True)
        for path in self.logs.glob("*"):
            path.unlink(missing_ok=True)
        if self.logs.is_dir():
            self.logs.rmdir()


def ids(images: LabImages) -> dict[str, str]:
    """The ids of a lab's images by name."""
    return {image.name: image.id for image in images.all}


def _decode(kind: type, value: object) -> object:
    """msgspec knows no paths."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def _holder(data: bytes) -> str:
    """The holder's process in a state that can't be read otherwise."""
    with contextlib.suppress(msgspec.MsgspecError):
        found = msgspec.json.decode(data)
        if isinstance(found, dict) and isinstance(found.get("holder"), int):
            return str(found["holder"])
    return "its holder"
