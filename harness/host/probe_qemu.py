"""The probe of QEMU: is there one, and has it the devices the links need."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.host import asking
from harness.host.finding import Finding, Verdict
from harness.model.spec import Qemu

DEVICES = ("vhost-vsock-pci", "virtserialport", "virtconsole", "isa-serial")
SYSTEM_QEMU = "qemu-system-x86_64"


def of_system() -> Qemu | None:
    """The QEMU on PATH, if there is one."""
    path = shutil.which(SYSTEM_QEMU)
    return None if path is None else Qemu(argv=(path,))


def ask(qemu: Qemu, *arguments: str) -> str:
    """What QEMU prints when it is run with `arguments` and ends by itself.

    :raise OSError: it can't be started.
    :raise subprocess.SubprocessError: it fails or hangs.
    """
    return asking.ask([*qemu.argv, *arguments], qemu.env)


@dataclass(frozen=True)
class QemuDevices:
    """A QEMU that starts and has the devices.

    :ivar qemu: the harness's own; without it, and without one on PATH, the image is still to be built.
    :ivar mend: the command that builds it.
    """

    qemu: Qemu | None = None
    mend: str = ""
    ability: str = "qemu"

    def look(self) -> Finding:
        """See `Probe`."""
        qemu = self.qemu or of_system()
        if qemu is None:
            seen = f"the qemu image is not built, and no {SYSTEM_QEMU} is on PATH"
            return self._finding(Verdict.MISSING, seen)
        try:
            version = ask(qemu, "--version").splitlines()[0]
            known = ask(qemu, "-M", "q35", "-device", "help")
        except (OSError, subprocess.SubprocessError, IndexError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            return self._finding(Verdict.BROKEN, f"{Path(qemu.argv[0]).name} does not run: {said[0]}")
        absent = [device for device in DEVICES if f'name "{device}"' not in known]
        if absent:
            return self._finding(Verdict.BROKEN, f"{version} lacks {', '.join(absent)}")
        own = "the harness's own" if self.qemu else "on PATH"
        return self._finding(Verdict.OK, f"{version}, {own}, has {', '.join(DEVICES)}")

    def _finding(self, verdict: Verdict, seen: str) -> Finding:
        return Finding(self.ability, verdict, seen, "any VM", "" if verdict is Verdict.OK else self.mend)
