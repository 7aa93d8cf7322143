"""The claim of reliability as it holds by what a run saw of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from harness.model.factwords import CALLED
from harness.model.fault import FaultKind, While
from harness.report.deaths import ALIVE, Death, Met, kernels
from harness.report.words import seconds

VM_DIES = frozenset(
    {
        FaultKind.QEMU_KILL,
        FaultKind.QEMU_QUIT,
        FaultKind.GUEST_PANIC,
        FaultKind.GUEST_RESET,
        FaultKind.RESTORE,
    }
)
"""Faults after which the VM, as it was, is no more."""


def corrected(found: Iterable[Death]) -> Iterator[str]:
    """The claim as it holds by what was seen: some sentences for each host kernel, named if not alone."""
    found = tuple(found)
    several = len(kernels(found)) > 1
    for kernel in kernels(found):
        where = f"Linux {kernel}: " if several else ""
        of = [death for death in found if death.kernel == kernel]
        here = [death for death in of if _connected(death)]
        for sentence, fits in _SENTENCES.items():
            if told := [_told(death) for death in here if fits(death)]:
                yield f"{where}{sentence}: {'; '.join(told)}."
        for death in of:
            if death.kind is FaultKind.SHIM_KILL:
                link = death.item.subject.link
                yield f"{where}{death.died} ({link}); others notice: {death.others}."


def _connected(death: Death) -> list[Met]:
    """Those that it hit in a connection, as far as they told."""
    return [one for one in death.hit if one.told and _has_one(one)]


def _cut(death: Death) -> bool:
    return all(one.sees != ALIVE for one in _connected(death))


def _mute(death: Death) -> bool:
    return all(one.sees == ALIVE for one in _connected(death))


def _kept(death: Death) -> bool:
    return _mute(death) and all(one.undisturbed for one in _connected(death))


_SENTENCES: dict[str, Callable[[Death], bool]] = {
    "the VM's death is told to the host's ends": lambda death: death.kind in VM_DIES and _cut(death),
    "the VM's death is not told, and connections look alive": lambda death: (
        death.kind in VM_DIES and _mute(death)
    ),
    "lost as well, though VM and shim live": lambda death: death.kind not in VM_DIES and _cut(death),
    "lost, though VM and shim live, and it is not told": lambda death: (
        death.kind not in VM_DIES and _mute(death) and not _kept(death)
    ),
    "not lost, and nothing is told": lambda death: death.kind not in VM_DIES and _kept(death),
    "told to some ends only": lambda death: not _cut(death) and not _mute(death),
}
"""What can be said of a fault, and of which it is true."""


def _has_one(one: Met) -> bool:
    """Whether it has a connection that can look alive: one that only connects or listens has not."""
    return While(one.cells[0]).has_connection


def _told(death: Death) -> str:
    """``QEMU killed (vsock): ECONNRESET, ENODEV within 0.03 s``; where some saw nothing, who saw what; where
    all did, what new connections get."""
    where = f"{death.died} ({death.item.subject.link})"
    cut = [one for one in _connected(death) if one.sees != ALIVE]
    mute = [one for one in _connected(death) if one.sees == ALIVE]
    if not cut:
        fresh = [one for one in death.hit if one.told and not _has_one(one)]
        got = _each(one.sees for one in fresh if one.sees not in (ALIVE, CALLED))
        return f"{where}: new ones get {got}" if got else where
    said = f"{_each(one.sees for one in cut)} within {seconds(max(0.0, *(one.seconds or 0 for one in cut)))}"
    if mute:
        said += f" ({_names(cut, mute)}), {ALIVE} ({_names(mute, cut)})"
    return f"{where}: {said}"


def _names(these: Iterable[Met], others: Iterable[Met]) -> str:
    """The groups of these clients; of a group that has some among the others, the clients."""
    divided = {_group(one) for one in others}
    return _each(one.client if _group(one) in divided else _group(one) for one in these)


def _group(one: Met) -> str:
    return one.client.rpartition("/")[0]


def _each(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
