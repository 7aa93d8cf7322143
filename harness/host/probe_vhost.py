"""The probe of vhost_vsock: by claiming a CID, because /dev/vhost-vsock proves nothing by being there.

It's a static node (kernel/module: devname alias), and to open it loads the module where that is allowed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.host import kernel, mends, probes
from harness.host.cid import DEVICE, CidLease
from harness.host.finding import Finding, Verdict
from harness.host.mends import Mend
from harness.model.errors import HarnessError


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
        state = kernel.module_state("vhost_vsock", self.root)  # after: to open may have loaded it
        seen = f"guest CID {cid} claimed on {self.device} and given back; the module is {state}"
        return self._finding(Verdict.OK, seen)

    def _explain(self, error: HarnessError) -> Finding:
        cause = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        state = kernel.module_state("vhost_vsock", self.root)
        seen = f"{error.summary}; the module is {state}"
        if cause in {errno.EACCES, errno.EPERM}:
            return self._finding(Verdict.DENIED, seen, mends.let_in(self.device, cause or 0, self.root))
        if cause not in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
            return self._finding(Verdict.BROKEN, seen)
        if state in {"loaded", "built in"}:
            seen = f"{seen}, but has no node here"
            return self._finding(Verdict.MISSING, seen, mends.make_node(self.device, self.root))
        if state == "not built":
            return self._finding(
                Verdict.MISSING, f"this kernel was built without vhost_vsock; {error.summary}"
            )
        return self._not_loaded(seen, state)

    def _not_loaded(self, seen: str, state: str) -> Finding:
        """The seed's own command, after the one that makes room for it where that matters."""
        by = kernel.blacklisted("vhost_vsock", self.root)
        if by:
            seen = f"{seen}, and blacklisted in {by}"
        mend = probes.Vmci(self.root).mend()
        if not mend.text and (state == "loadable" or kernel.in_container(self.root)):
            then = f"docker run --device {self.device} ..."
            mend = mends.load("vhost_vsock", self.root, options=("-i",), at_boot=True, then=then)
        elif not mend.text and kernel.replaced_since_boot(self.root):
            seen = f"{seen}: the modules of {kernel.release(self.root)} are gone, it was upgraded since boot"
            mend = Mend(mends.as_root("reboot"))
        elif not mend.text and "ubuntu" in kernel.read(self.root / "etc/os-release").lower():
            extra = f"linux-modules-extra-{kernel.release(self.root)}"
            load = mends.as_root("modprobe -i vhost_vsock")
            mend = Mend(f"{mends.as_root(f'apt-get install {extra}')} && {load}")
        return self._finding(Verdict.MISSING, seen, mend)

    def _finding(self, verdict: Verdict, seen: str, mend: Mend = mends.NOTHING) -> Finding:
        return Finding(self.ability, verdict, seen, "local", mend.text, mend.steps)
