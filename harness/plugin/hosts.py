"""From the hosts asked for to xdist workers on them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from harness.host import doctor
from harness.host.finding import Verdict
from harness.host.paths import Cache, cache_root
from harness.host.runfolder import RunFolder
from harness.image.store import Store
from harness.lab import deploy, lab
from harness.lab.address import Address
from harness.lab.kept import Keep
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.progress import Progress
from harness.model.spec import Accel
from harness.plugin.bench import available

MOST_LABS = 4

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
    """What a run asks of its labs: how many and how large, if it says; how many items there are, if known."""

    count: int | None
    memory_mib: int | None
    items: int | None


def lab_count(items: int | None, memory_mib: int) -> int:
    """How many labs to boot unless told: one a core, no more than there are items or free memory for."""
    room = lab.free_mib() // memory_mib
    return max(1, min(os.cpu_count() or 1, MOST_LABS, items or MOST_LABS, room))


@contextlib.contextmanager
def labs(
    wish: LabWish, store: Store, folder: RunFolder, logs: Path, progress: Progress
) -> Iterator[tuple[list[deploy.Remote], str]]:
    """Labs that are ready for a worker each, and which they are in a few words.

    A kept lab is used if one is up and `wish` asks neither for several nor for a size.

    :raise HostUnfit: not enough memory, or no means to build the images.
    :raise InfrastructureError: an image can't be built, or a lab does not come up.
    """
    images = lab.LabImages(
        qemu=store.get("qemu", progress),
        lab=store.get("lab", progress),
        guests=tuple(store.get(name, progress) for name in lab.GUESTS),
    )
    with contextlib.ExitStack() as stack:
        loan = None
        if not wish.count and not wish.memory_mib:
            loan = stack.enter_context(Keep().borrowed(images))
        if loan and loan.lab:
            with progress.stage("lab: making the kept one ready"):
                work = deploy.LAB.work.with_name(f"work-{folder.path.name}")
                layout = msgspec.structs.replace(deploy.LAB, work=work)
                ready = deploy.deployed(loan.lab.address, layout, "kept", folder.path, accel=Accel.KVM)
                remotes = [stack.enter_context(ready)]
            yield remotes, f"the kept lab ({loan.reason})"
        else:
            memory = wish.memory_mib or lab.MEMORY_MIB
            count = wish.count or lab_count(wish.items, memory)
            accel = _lab_accel(store)
            up = functools.partial(
                lab.up, images, cache_root() / "keys", folder, memory_mib=memory, accel=accel
            )
            remotes = stack.enter_context(_booted(count, up, folder, logs, progress))
            which = f"{count} booted, {memory} MiB each, under {accel.value.upper()}"
            yield remotes, which + (f"; {loan.reason}" if loan else "")


def _lab_accel(store: Store) -> Accel:
    """KVM for the lab itself where this machine's KVM works and nests, else emulation."""
    found = {item.ability: item for item in doctor.examine(available(store), Cache())}
    nests = found["kvm"].fine and found["nested-kvm"].verdict is Verdict.OK
    return Accel.KVM if nests else Accel.TCG


@contextlib.contextmanager
def _booted(
    count: int,
    up: Callable[..., contextlib.AbstractContextManager[lab.Lab]],
    folder: RunFolder,
    logs: Path,
    progress: Progress,
) -> Iterator[list[deploy.Remote]]:
    def start(number: int, stack: contextlib.ExitStack) -> deploy.Remote:
        name = f"lab{number}"
        running = stack.enter_context(up(name=name, log_folder=logs / name))
        ready = deploy.deployed(running.address, deploy.LAB, name, folder.path, accel=Accel.KVM)
        return stack.enter_context(ready)

    what = "lab: booting" if count == 1 else f"lab: booting {count} of them"
    with _started(count, start, progress, what) as remotes:
        yield remotes


@contextlib.contextmanager
def addresses(
    given: list[Address], store: Store, folder: RunFolder, progress: Progress
) -> Iterator[list[deploy.Remote]]:
    """The given hosts, ready for workers."""
    images = tuple(store.get(name, progress) for name in ("qemu", *lab.GUESTS))

    def start(number: int, stack: contextlib.ExitStack) -> deploy.Remote:
        return stack.enter_context(deploy.prepared(given[number], f"host{number}", folder.path, images))

    with _started(len(given), start, progress, f"host: preparing {', '.join(map(str, given))}") as remotes:
        yield remotes


@contextlib.contextmanager
def _started(
    count: int,
    start: Callable[[int, contextlib.ExitStack], deploy.Remote],
    progress: Progress,
    what: str,
) -> Iterator[list[deploy.Remote]]:
    """All at once; if one fails, or on Ctrl-C, none is left."""
    stacks = [contextlib.ExitStack() for _ in range(count)]
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=count, thread_name_prefix="vsock-harness host")
    with contextlib.ExitStack() as all_of_them:
        for stack in stacks:
            all_of_them.push(functools.partial(_leave, stack))
        try:
            with progress.stage(what):
                futures = [pool.submit(start, number, stack) for number, stack in enumerate(stacks)]
                remotes = [future.result() for future in futures]
        finally:
            # on Ctrl-C nobody waits here: the run folder's end kills the emulators, and that ends the threads
            pool.shutdown(wait=False, cancel_futures=True)
        yield remotes


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


def bring_home(remotes: list[deploy.Remote], results: Path) -> list[str]:
    """Fetch each host's evidence into `results`; what could not be fetched, a line each."""
    trouble = []
    for remote in remotes:
        try:
            remote.ssh.run(["mkdir", "-p", str(remote.layout.results)])
            remote.ssh.fetch(remote.layout.results, results)
        except InfrastructureError as error:
            trouble.append(f"{remote.alias}: its evidence is lost: {error.summary}")
    return trouble
