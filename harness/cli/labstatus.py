"""What ``vsock-harness lab status`` says of a lab that is up."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec

from harness.cli.imagetable import span
from harness.image.store import Store
from harness.lab.kept import Keep, Kept
from harness.lab.ssh import Ssh
from harness.lab.state import State
from harness.model.deadline import Deadline
from harness.model.errors import HarnessError

_COUNT_WITHIN = 30.0
"""Seconds to count processes in the lab."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be said. `used_mib` is the PSS of its QEMU; `pods` None if it did not say."""

    kept: Kept
    answers: bool
    current: bool
    used_mib: int | None
    pods: int | None
    user: int | None
    logs: Path

    def lines(self) -> list[str]:
        """For people."""
        kept = self.kept
        since = datetime.datetime.fromisoformat(kept.since).astimezone()
        age = span((datetime.datetime.now(datetime.UTC) - since).total_seconds())
        up = "up" if kept.state is State.LOADED else f"up, {kept.state}: {kept.state.about}"
        state = up if self.answers else "up, but it does not answer (vsock-harness lab up --fresh)"
        used = f", {self.used_mib} MiB in use" if self.used_mib is not None else ""
        images = ", ".join(f"{name} {identity}" for name, identity in kept.images.items())
        fits = "today's" if self.current else "older than today's recipes (vsock-harness lab up --fresh)"
        facts = {
            "state": state,
            "since": f"{since:%Y-%m-%d %H:%M:%S} ({age} ago), booted in {kept.lab.boot_seconds:.0f} s",
            "address": str(kept.lab.address),
            "memory": f"{kept.memory_mib} MiB{used} (PSS of QEMU, process {kept.lab.pid})",
            "images": f"{fits}: {images}",
            "pods": "unknown" if self.pods is None else f"{self.pods} running",
            "used by": "no run" if self.user is None else f"a run (process {self.user})",
            "logs": str(self.logs),
        }
        return [f"{key:<9}{value}" for key, value in facts.items()]

    def as_data(self) -> dict[str, object]:
        """For machines."""
        kept = self.kept
        return {
            "state": "up" if self.answers else "unresponsive",
            "since": kept.since,
            "boot_seconds": kept.lab.boot_seconds,
            "address": str(kept.lab.address),
            "port": kept.lab.address.port,
            "host_key": kept.lab.address.host_key,
            "holder_pid": kept.holder,
            "qemu_pid": kept.lab.pid,
            "memory_mib": kept.memory_mib,
            "used_mib": self.used_mib,
            "images": kept.images,
            "images_current": self.current,
            "pods": self.pods,
            "used_by": self.user,
            "logs": str(self.logs),
        }


def look(keep: Keep, kept: Kept, store: Store) -> Status:
    """Look at a lab that `keep.find` found. Takes the seconds of an SSH connection."""
    answers = kept.answers()
    today = {name: image.id if (image := store.find(name)) else "" for name in kept.images}
    return Status(
        kept=kept,
        answers=answers,
        current=today == kept.images,
        used_mib=pss_mib(kept.lab.pid),
        pods=_pods(kept) if answers else None,
        user=keep.user(),
        logs=keep.logs,
    )


def pss_mib(pid: int) -> int | None:
    """A process's proportional set size in MiB (proc_pid_smaps(5)); None if it is gone or another user's."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    found = (line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))
    return int(next(found, "0")) // 1024


def _pods(kept: Kept) -> int | None:
    """How many QEMUs run in the lab."""
    try:
        with Ssh.connect(kept.lab.address) as ssh:
            said = ssh.run_unchecked(["pgrep", "-c", "qemu-system"], deadline=Deadline(_COUNT_WITHIN))
    except HarnessError:
        return None
    return int(said.out) if said.out.strip().isdecimal() else None
