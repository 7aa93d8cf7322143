"""The probe of vhost_vsock: by claiming a CID, because /dev/vhost-vsock proves nothing by being there.

It's a static node (kernel/module: devname alias), and to open it loads the module where that is allowed.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import gzip
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.host import probes
from harness.host.cid import DEVICE, CidLease
from harness.host.finding import Finding, Verdict
from harness.model.errors import HarnessError


def module_state(name: str, root: Path = Path("/")) -> str:
    """``loaded``, ``built in``, ``loadable``, ``not built`` or ``absent``: what this kernel has of a module.

    From /proc/modules, modules.builtin and modules.dep of depmod(8), then the kernel's configuration.
    ``absent`` says that no trace was found; in a container the host's modules may just be hidden.
    """
    if name in probes.modules_loaded(root):
        return "loaded"
    folder = root / "lib/modules" / probes.release(root)
    file = re.compile(rf"/{re.escape(name).replace('_', '[_-]')}\.ko", re.MULTILINE)
    if file.search(probes.read(folder / "modules.builtin")):
        return "built in"
    if file.search(probes.read(folder / "modules.dep")):
        return "loadable"
    option = _option(name, root)
    return {"y": "built in", "n": "not built"}.get(option, "absent")


def _option(module: str, root: Path) -> str:
    """``y``, ``m``, ``n`` as the kernel's configuration says, "" if it's not to be had."""
    name = f"CONFIG_{module.upper()}"
    text = probes.read(root / "boot" / f"config-{probes.release(root)}")
    if not text:
        with contextlib.suppress(OSError):
            text = gzip.decompress((root / "proc/config.gz").read_bytes()).decode(errors="replace")
    match = re.search(rf"^(?:{name}=([ym])|# ({name}) is not set)$", text, re.MULTILINE)
    if match is None:
        return ""
    return match[1] or "n"


def let_in(device: Path) -> str:
    """The command that lets this user open a device node which its permissions deny."""
    if os.geteuid() == 0:
        return f"docker run --device {device} ..."  # root is denied by a device control group only
    status = device.stat()
    with contextlib.suppress(KeyError):  # a number without a name, as containers have them
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(status.st_gid).gr_name
        if status.st_gid != 0 and status.st_mode & 0o060 == 0o060:
            return f"sudo usermod -aG {group} {user}  # then log in again"
    return f"sudo chmod 0666 {device}"


def _claim(device: Path) -> int:
    with CidLease.claim(device) as lease:
        return lease.cid


@dataclass(frozen=True)
class VhostVsock:
    """vhost_vsock: loaded, built in, loadable, denied or absent; ok only when a CID could be claimed."""

    root: Path = Path("/")
    device: Path = DEVICE
    claim: Callable[[Path], int] = _claim
    ability: str = "vhost-vsock"

    def look(self) -> Finding:
        """See `Probe`."""
        try:
            cid = self.claim(self.device)
        except HarnessError as error:
            return self._explain(error)
        state = module_state("vhost_vsock", self.root)  # after: to open may have loaded it
        seen = f"guest CID {cid} claimed on {self.device} and given back; the module is {state}"
        return self._finding(Verdict.OK, seen)

    def _explain(self, error: HarnessError) -> Finding:
        cause = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        state = module_state("vhost_vsock", self.root)
        seen = f"{error.summary}; the module is {state}"
        if cause in {errno.EACCES, errno.EPERM}:
            return self._finding(Verdict.DENIED, seen, let_in(self.device))
        if cause not in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
            return self._finding(Verdict.BROKEN, seen)
        if state == "loadable":
            return self._finding(Verdict.MISSING, seen, self._load())
        if state in {"loaded", "built in"}:
            mend = f"docker run --device {self.device} ..."
            return self._finding(Verdict.MISSING, f"{seen}, but has no node here", mend)
        if state == "not built":
            return self._finding(
                Verdict.MISSING, f"this kernel was built without vhost_vsock; {error.summary}"
            )
        extra = f"linux-modules-extra-{probes.release(self.root)}"
        if "ubuntu" in probes.read(self.root / "etc/os-release").lower():
            mend = f"{probes.as_root(f'apt-get install {extra}')} && {self._load()}"
            return self._finding(Verdict.MISSING, seen, mend)
        return self._finding(Verdict.MISSING, seen)

    def _load(self) -> str:
        """The seed's own command, after the one that makes room for it where that matters."""
        first = probes.Vmci(self.root).look().mend
        return first or probes.as_root("modprobe -i vhost_vsock")

    def _finding(self, verdict: Verdict, seen: str, mend: str = "") -> Finding:
        return Finding(self.ability, verdict, seen, "local", mend)
