"""The evidence of one item, as files."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.guest.client import Hello
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.trace import Event
from harness.model.verdict import Verdict
from harness.run.place import Place
from harness.run.tracefile import write_trace


class Facts(msgspec.Struct, frozen=True):
    """What ran: versions of both ends, how long the pod's phases took (seconds), how slow the host is.

    `backend` is the device behind the link, by QEMU's name.
    """

    host_kernel: str
    host_python: str
    qemu: str
    accel: str
    guest_image: str
    hello: Hello
    seconds: dict[str, float]
    slowness: float
    notes: tuple[str, ...] = ()
    backend: str = ""


def facts(
    place: Place,
    link: Link,
    hello: Hello,
    qemu: str,
    seconds: dict[str, float],
    slow: float,
    notes: tuple[str, ...] = (),
) -> Facts:
    """The facts of a pod at `place`, of whose links one was used; `qemu` is its version, `notes` its own."""
    return Facts(
        host_kernel=platform.release(),
        host_python=platform.python_version(),
        qemu=qemu or place.qemu.argv[0],
        accel=place.accel.value,
        guest_image=f"{place.guest.name} {place.guest.id}",
        hello=hello,
        seconds=seconds,
        slowness=round(slow, 2),
        notes=(*place.notes, *notes),
        backend=link.backend,
    )


def write(folder: Path, plan: Plan, trace: Sequence[Event], verdict: Verdict, about: Facts) -> None:
    """Write `trace.jsonl`, `plan.json`, `verdict.json` and `facts.json` into `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_trace(folder / "trace.jsonl", trace)
    for name, value in (("plan", plan), ("verdict", verdict), ("facts", about)):
        (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
