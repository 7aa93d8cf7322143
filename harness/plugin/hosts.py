"""From the hosts asked for to xdist workers on them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from harness.host import doctor
from harness.host.admission import free_mib
from harness.host.finding import Verdict
from harness.host.paths import Cache, cache_root
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image.store import Store
from harness.lab import deploy, keys, lab
from harness.lab.address import Address
from harness.lab.kept import Keep, Loan
from harness.lab.ssh import answers
from harness.lab.state import OWN_KERNEL, kernel_image
from harness.model.deadline import Deadline
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.progress import Progress
from harness.model.spec import Accel
from harness.plugin.bench import available
from harness.plugin.labs import Labs, opened
from harness.plugin.together import all_at_once
from harness.vm.console import Console

MOST_LABS = 4
_ANSWERS_WITHIN = 10.0
"""Seconds for an SSH banner, which takes an emulated lab that works hard one."""

_log = logging.getLogger(__name__)


class Choice(msgspec.Struct, frozen=True):
    """The kind of host to use (`local` or `lab`) and why, in one line."""

    kind: str
    reason: str


def choose(wanted: str, store: Store, progress: Progress) -> Choice:
    """What `wanted` (auto, local, lab) means on this machine.

    :raise HostUnfit: when auto finds neither; the hint leads to the doctor.
    """
    if wanted != "auto":
        return Choice(wanted, f"--host {wanted}")
    for name in ("qemu", "pod"):
        store.get(name, progress)
    with progress.stage("host: looking what this machine can do"):
        found = doctor.choose(doctor.examine(available(store), Cache()))
    if found.kind is doctor.Kind.NONE:
        raise HostUnfit(
            f"VMs can run neither here nor in a lab: {found.reason}",
            ability="host",
            hint="vsock-harness doctor",
        )
    return Choice(found.kind.value, found.reason)


class LabWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks of its labs.

    How many workers and how much memory, if it says; how many items there are, if known; whether the labs
    shall be booted anew (`fresh`) though a saved one is there; the `images` they have beside the usual ones;
    the Debian release that their `kernel` is of; and the image that pods' `guest` is.
    """

    workers: int | None
    memory_mib: int | None
    items: int | None
    fresh: bool
    images: tuple[str, ...] = ()
    kernel: str = OWN_KERNEL
    guest: str = lab.GUESTS[0]

    @property
    def beyond_kept(self) -> list[str]:
        """The options by which it asks for what a kept lab, which is one and as it is, may not give."""
        asked = {
            "-n": (self.workers or 1) > 1,
            "--lab-memory": self.memory_mib,
            "--fresh-lab": self.fresh,
            "--with-image or --guest": self.images,
            "--lab-kernel": self.kernel != OWN_KERNEL,
        }
        return [option for option, given in asked.items() if given]


def lab_count(wanted: int | None, memory_mib: int) -> int:
    """How many labs to run for so many workers or items: at most one a core, and what there is free memory
    for."""
    room = free_mib() // lab.needed_mib(memory_mib)
    return max(1, min(os.cpu_count() or 1, MOST_LABS, wanted or MOST_LABS, room))


def shares(wanted: int | None, most: Sequence[int]) -> list[int]:
    """How many of the `wanted` workers each host gets: as even as can be, one at least, `most` of each host
    at most."""
    given = [1] * len(most)
    for _ in range((wanted or 0) - len(most)):
        room = [number for number, share in enumerate(given) if share < most[number]]
        if not room:
            break
        given[min(room, key=given.__getitem__)] += 1
    return given


class Fleet:
    """The hosts of a run that are not this machine, by alias, ready for workers.

    `words` says in a few words which they are. `prepare`, once set, is done with each host that comes later,
    `fetch` with each that goes. Those of `lent`, consoles by alias, are not the run's own; where it has
    `labs`, one of these takes such a one's place too.
    """

    def __init__(
        self,
        remotes: dict[str, deploy.Remote],
        words: str,
        labs: Labs | None = None,
        lent: Mapping[str, Path] = types.MappingProxyType({}),
    ) -> None:
        self.remotes = remotes
        self._lent = dict(lent)
        self.words = words
        self.fetch: Callable[[deploy.Remote], None] = lambda remote: None
        self.prepare: Callable[[deploy.Remote], None] = lambda remote: None
        self._labs = labs

    def trouble(self, alias: str) -> str | None:
        """See `harness.plugin.rerun.Hosts`."""
        if alias in self._lent:
            return Console(self._lent[alias]).crash()
        return self._labs.trouble(alias) if self._labs else None

    def fixed(self, alias: str) -> str | None:
        """See `harness.plugin.rerun.Hosts`."""
        return None if self._labs else f"{self.remotes[alias].address} is not ours to replace"

    def replace(self, alias: str) -> None:
        """Put a fresh lab behind `alias`; what knows the old one by this name then reaches the new one.

        The old one's evidence is fetched if it still gives it. See also `harness.plugin.rerun.Hosts`.

        :raise HostUnfit, InfrastructureError: it is no lab of this run's own, or none comes up.
        """
        old = self.remotes[alias]
        if self._labs is None:
            raise InfrastructureError(f"{old.address} is not ours to replace")
        # a kernel that hangs keeps its connections: no second is spent on what it would not give
        if answers(old.address, Deadline(_ANSWERS_WITHIN * slowness())):
            with contextlib.suppress(InfrastructureError):
                self.fetch(old)
        self._labs.kill(alias)
        with contextlib.suppress(InfrastructureError):  # what was wrong with it is why it is replaced
            self._labs.end(alias)
        self.remotes[alias] = remote = self._labs.start(alias)
        self._lent.pop(alias, None)
        self.prepare(remote)


@contextlib.contextmanager
def labs(
    wish: LabWish, store: Store, folder: RunFolder, logs: Path, progress: Progress, notes: list[str]
) -> Iterator[Fleet]:
    """Labs that are ready for workers.

    A kept lab is used if one is up and `wish` asks for nothing that it may not give (`LabWish.beyond_kept`).

    :param notes: gets what a user should know of what went otherwise than usual.
    :raise HostUnfit: not enough memory, or no means to build the images.
    :raise InfrastructureError: an image can't be built, or a lab does not come up.
    """
    kernel = kernel_image(wish.kernel)
    images = lab.LabImages(
        qemu=store.get("qemu", progress),
        lab=store.get("lab", progress),
        guests=tuple(store.get(name, progress) for name in (*lab.GUESTS, *wish.images)),
        kernel=store.get(kernel, progress) if kernel else None,
    )
    with contextlib.ExitStack() as stack:
        loan = stack.enter_context(_borrowed(wish, images))
        remote = _kept(loan.lab, loan, folder, progress, stack) if loan.lab else None
        memory = wish.memory_mib or lab.MEMORY_MIB
        accel = _lab_accel(store)
        pair = keys.ensure(cache_root() / "keys")
        what = lab.Wish(images=images, pair=pair, memory_mib=memory, accel=accel, guest=wish.guest)
        instead = remote.layout if remote else None
        ours = opened(what, folder, logs, progress, fresh=wish.fresh, notes=notes, instead_of=instead)
        own = stack.enter_context(ours)
        if remote:
            console = Keep().logs / "console.log"
            yield Fleet({"kept": remote}, f"the kept lab ({loan.reason})", own, {"kept": console})
            return
        count, free = lab_count(wish.workers or wish.items, memory), free_mib()
        aliases = [f"lab{number}" for number in range(count)]
        how = "restored" if own.restores else "booted"
        with progress.stage(f"lab: {'restoring' if own.restores else 'booting'} {count}"):
            remotes = all_at_once(aliases, own.start)
        words = f"{count} {how}, {memory} MiB each, under {accel.value.upper()}"
        words += f", with {wish.kernel}'s kernel" if kernel else ""
        if (wish.workers or 0) > count:
            words += f" ({os.cpu_count()} cores, {free} MiB free; {wish.workers} workers asked for)"
        yield Fleet(remotes, words + (f"; {loan.reason}" if loan.reason else ""), own)


def _kept(
    running: lab.Lab, loan: Loan, folder: RunFolder, progress: Progress, stack: contextlib.ExitStack
) -> deploy.Remote:
    """The kept lab, ready for a worker until `stack` is left."""
    with progress.stage("lab: making the kept one ready"):
        work = deploy.LAB.work.with_name(f"work-{folder.path.name}")
        layout = msgspec.structs.replace(deploy.LAB, work=work)
        ready = deploy.deployed(
            running.address,
            layout,
            "kept",
            folder.path,
            accel=Accel.KVM,
            restored=loan.restored,
        )
        return stack.enter_context(ready)


@contextlib.contextmanager
def _borrowed(wish: LabWish, images: lab.LabImages) -> Iterator[Loan]:
    """The kept lab, if it will do; if it would be there but for what `wish` asks for, that is the reason."""
    beyond, keep = wish.beyond_kept, Keep()
    if not beyond:
        with keep.borrowed(images) as loan:
            yield loan
        return
    up = False
    with contextlib.suppress(InfrastructureError):  # another version's: it isn't asked for
        up = keep.find() is not None
    yield Loan(None, f"the kept lab is not used: {', '.join(beyond)} given" if up else "")


def _lab_accel(store: Store) -> Accel:
    """KVM for the lab itself where this machine's KVM works and nests, else emulation."""
    found = {item.ability: item for item in doctor.examine(available(store), Cache())}
    nests = found["kvm"].fine and found["nested-kvm"].verdict is Verdict.OK
    return Accel.KVM if nests else Accel.TCG


@contextlib.contextmanager
def addresses(
    given: list[Address], further: tuple[str, ...], store: Store, folder: RunFolder, progress: Progress
) -> Iterator[Fleet]:
    """The given hosts, ready for workers, with the usual images and `further` ones."""
    images = tuple(store.get(name, progress) for name in ("qemu", *lab.GUESTS, *further))
    by_alias = {f"host{number}": address for number, address in enumerate(given)}
    stacks = {alias: contextlib.ExitStack() for alias in by_alias}

    def start(alias: str) -> deploy.Remote:
        ready = deploy.prepared(by_alias[alias], alias, folder.path, images)
        return stacks[alias].enter_context(ready)

    words = ", ".join(f"{alias} {address}" for alias, address in by_alias.items())
    with contextlib.ExitStack() as all_of_them:
        for stack in stacks.values():
            all_of_them.push(functools.partial(_leave, stack))
        with progress.stage(f"host: preparing {words}"):
            remotes = all_at_once(list(by_alias), start)
        yield Fleet(remotes, words)


def _leave(
    stack: contextlib.ExitStack,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
) -> bool:
    """End a host. What is found wrong with it only then is a warning: the verdicts stand without it."""
    try:
        return bool(stack.__exit__(kind, error, trace))
    except InfrastructureError as trouble:
        if error is not None:
            raise
        _log.warning("%s", trouble)
        return False


def bring_home(remote: deploy.Remote, results: Path) -> None:
    """Fetch a host's evidence into `results`.

    :raise InfrastructureError: it can't be had.
    """
    remote.ssh.run(["mkdir", "-p", str(remote.layout.results)])
    remote.ssh.fetch(remote.layout.results, results)
