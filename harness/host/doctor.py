"""All probes of this host, and which kind of host they leave to choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from harness.host import cid, probes
from harness.host.finding import Finding, Probe, Verdict
from harness.host.paths import Cache
from harness.host.probe_kvm import Guest, Kvm
from harness.host.probe_qemu import QemuDevices, of_system
from harness.host.probe_vhost import VhostVsock
from harness.model.spec import Qemu

LOCAL_MIB = 1024
LAB_MIB = 4608
"""What a lab of 4096 MiB takes, QEMU included."""

IMAGES_MIB = 3072
BUILD_IMAGES = "vsock-harness images build"

NEEDS_LOCAL = ("kernel", "kvm", "vhost-vsock", "af-vsock", "setpriv", "memory-local")
NEEDS_POD = ("setpriv", "memory-local")
"""What any VM on this host needs; it runs under emulation where it lacks the rest."""

NEEDS_VSOCK = ("kernel", "vhost-vsock", "af-vsock")
NEEDS_LAB = ("setpriv", "memory-lab")


class Kind(StrEnum):
    """Where VMs can run."""

    LOCAL = "local"
    LAB = "lab"
    NONE = "none"


class Choice(NamedTuple):
    """The kind of host to use, and the reason in one line."""

    kind: Kind
    reason: str


class Available(NamedTuple):
    """What the image store has and needs; the caller knows it, this package doesn't.

    `tools` maps the programs that building needs to their Debian packages.
    """

    qemu: Qemu | None = None
    kernel: Path | None = None
    tools: Mapping[str, str] = {}


class _G2hFallback:
    """Where this host is a guest itself: does a connection to a CID nobody owns stay here?"""

    ability = "g2h-fallback"

    def look(self) -> Finding:
        """See `Probe`."""
        return cid.g2h_fallback()


def all_probes(available: Available, cache: Cache, *, fresh: bool = False) -> list[Probe]:
    """The probes in the order of the table: the seed's requirements, then the harness's.

    :param fresh: boot a guest even if the answer is known.
    """
    qemu = available.qemu or of_system()
    guest = Guest(qemu, available.kernel) if qemu and available.kernel else None
    if fresh:
        (cache.root / "probes" / "kvm.json").unlink(missing_ok=True)
    return [
        probes.Kernel(),
        VhostVsock(),
        probes.Vmci(),
        probes.AfVsock(),
        _G2hFallback(),
        Kvm(guest, cache),
        probes.Nested(),
        QemuDevices(available.qemu, BUILD_IMAGES),
        probes.Memory("memory-local", "local", LOCAL_MIB),
        probes.Memory("memory-lab", "lab", LAB_MIB),
        probes.Disk(cache.root, IMAGES_MIB),
        probes.Tools("setpriv", "any VM", {"setpriv": "util-linux"}),
        probes.Tools("ssh-client", "lab shell, remote hosts", {"ssh": "openssh-client"}),
        probes.Tools("image-tools", "building images", available.tools),
    ]


def examine(available: Available, cache: Cache, *, fresh: bool = False) -> list[Finding]:
    """Look at everything. Takes a second; up to 10 s, times `slowness`, where a guest is booted."""
    return [probe.look() for probe in all_probes(available, cache, fresh=fresh)]


def choose(findings: Iterable[Finding]) -> Choice:
    """The best kind of host that works here: local, else a lab, else none; and why.

    KVM that opens but was not yet proven (no images) does not count: build the images and look again.
    """
    by_ability = {finding.ability: finding for finding in findings}
    local, lab = lacking_local(by_ability), lacking_lab(by_ability)
    if not local:
        return Choice(Kind.LOCAL, "KVM runs guests, vhost_vsock gives CIDs, AF_VSOCK is allowed")
    missing = ", ".join(_brief(finding) for finding in local)
    if not lab:
        return Choice(Kind.LAB, f"no local VMs: {missing}")
    return Choice(Kind.NONE, f"no local VMs: {missing}; no lab: {', '.join(_brief(f) for f in lab)}")


def lacking_local(findings: Mapping[str, Finding]) -> list[Finding]:
    """What keeps VMs from running on this host itself; empty if they can."""
    lacking = [findings[name] for name in NEEDS_LOCAL if name in findings and not findings[name].fine]
    return lacking + _lacking_images(findings)


def lacking_pods(findings: Mapping[str, Finding]) -> list[Finding]:
    """What keeps a VM without the kernel's vsock from running here, under emulation; empty if one can."""
    lacking = [findings[name] for name in NEEDS_POD if name in findings and not findings[name].fine]
    return lacking + _lacking_images(findings)


def lacking_vsock(findings: Mapping[str, Finding]) -> list[Finding]:
    """What keeps a VM of this host, however it runs, from having the kernel's vsock; empty if it can."""
    return [findings[name] for name in NEEDS_VSOCK if name in findings and not findings[name].fine]


def lacking_lab(findings: Mapping[str, Finding]) -> list[Finding]:
    """What keeps a lab from running on this host; empty if it can, if need be once its images are built."""
    lacking = [findings[name] for name in NEEDS_LAB if name in findings and not findings[name].fine]
    return lacking + _lacking_images(findings)


def _lacking_images(findings: Mapping[str, Finding]) -> list[Finding]:
    """QEMU is there, or what builds it is; else what is missing of that."""
    qemu = findings.get("qemu")
    if qemu is None or qemu.fine:
        return []
    return [
        findings[name] for name in ("image-tools", "disk") if name in findings and not findings[name].fine
    ]


def _brief(finding: Finding) -> str:
    """The finding in a few words: the first part of what was seen, the rest is for the table."""
    verdict = "not proven" if finding.verdict is Verdict.UNKNOWN else str(finding.verdict)
    return f"{finding.ability} {verdict} ({finding.seen.split('; ')[0]})"
