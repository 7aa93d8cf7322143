"""Probes of the kernel, memory, disk and programs. KVM, vhost and QEMU have modules of their own.

`root` is where /proc, /sys and /lib/modules are looked for: "/" but in tests.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.host.finding import Finding, Verdict

ROOT = Path("/")
SEED_KERNEL = (4, 8)
MULTI_TRANSPORT_KERNEL = (5, 5)


def as_root(command: str) -> str:
    """The command as this user has to type it to run it as root."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def read(path: Path) -> str:
    """The file's text, "" if it can't be read: absent and hidden mean the same to a probe."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def release(root: Path) -> str:
    """The running kernel's release, as ``uname -r`` prints it."""
    return read(root / "proc/sys/kernel/osrelease")


def version(root: Path) -> tuple[int, int]:
    """Major and minor of the running kernel; (0, 0) if unknown."""
    match = re.match(r"(\d+)\.(\d+)", release(root))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def modules_loaded(root: Path) -> set[str]:
    """Names in /proc/modules: what is loaded, without what is built in."""
    return {line.split()[0] for line in read(root / "proc/modules").splitlines()}


def seccomp_filtered(root: Path) -> bool:
    """Whether this process runs under a seccomp filter (proc_pid_status(5), Seccomp: 2)."""
    return bool(re.search(r"^Seccomp:\s*2$", read(root / "proc/self/status"), re.MULTILINE))


@dataclass(frozen=True)
class Kernel:
    """The seed's requirement: a host kernel of at least 4.8."""

    root: Path = ROOT
    ability: str = "kernel"

    def look(self) -> Finding:
        """See `Probe`."""
        seen = release(self.root)
        verdict = Verdict.OK if version(self.root) >= SEED_KERNEL else Verdict.MISSING
        if version(self.root) == (0, 0):
            verdict = Verdict.UNKNOWN
        return Finding(
            self.ability, verdict, f"Linux {seen or '?'}, at least 4.8 is needed", "local: vhost_vsock"
        )


def _vsock_socket() -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@dataclass(frozen=True)
class AfVsock:
    """Whether this process may make AF_VSOCK sockets. Makes one, connects to nothing."""

    root: Path = ROOT
    ability: str = "af-vsock"
    make: Callable[[], None] = _vsock_socket

    def look(self) -> Finding:
        """See `Probe`."""
        try:
            self.make()
        except OSError as error:
            verdict, why, mend = self._explain(error)
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            return Finding(self.ability, verdict, f"socket(AF_VSOCK) fails with {name}: {why}", "local", mend)
        return Finding(self.ability, Verdict.OK, "socket(AF_VSOCK) works", "local")

    def _explain(self, error: OSError) -> tuple[Verdict, str, str]:
        if error.errno == errno.EAFNOSUPPORT:
            return Verdict.MISSING, "the kernel has no vsock loaded", as_root("modprobe vsock")
        if error.errno in {errno.EPERM, errno.EACCES, errno.ENOSYS}:
            if seccomp_filtered(self.root):
                why = "a seccomp filter denies it, as Docker's and Podman's default profiles do"
                return Verdict.DENIED, why, "docker run --security-opt seccomp=unconfined ..."
            return Verdict.DENIED, "a security module (AppArmor, SELinux) denies it", ""
        return Verdict.BROKEN, error.strerror or "", ""


@dataclass(frozen=True)
class Vmci:
    """VMware's vsock transport, which shut vhost_vsock out on kernels before 5.5.

    Since commit c0cfa2d8a788 (5.5) several transports live side by side.
    """

    root: Path = ROOT
    ability: str = "vmci-transport"

    def look(self) -> Finding:
        """See `Probe`."""
        loaded = "vmw_vsock_vmci_transport" in modules_loaded(self.root)
        old = version(self.root) < MULTI_TRANSPORT_KERNEL
        seen = f"vmw_vsock_vmci_transport {'is' if loaded else 'is not'} loaded"
        if not loaded or not old:
            harmless = " (harmless since Linux 5.5)" if loaded else ""
            return Finding(self.ability, Verdict.NOT_NEEDED, seen + harmless, "local, in a VMware guest")
        mend = "; ".join(
            as_root(command)
            for command in (
                "systemctl stop vmware-tools",
                "modprobe -r vmw_vsock_vmci_transport",
                "modprobe -i vhost_vsock",
            )
        )
        seen += f", and Linux {release(self.root)} takes only one vsock transport (EBUSY)"
        return Finding(self.ability, Verdict.BROKEN, seen, "local, in a VMware guest", mend)


@dataclass(frozen=True)
class Memory:
    """Memory that is free now, within this control group's limit."""

    ability: str
    needed_for: str
    mib: int
    root: Path = ROOT

    def look(self) -> Finding:
        """See `Probe`."""
        match = re.search(r"^MemAvailable:\s+(\d+) kB", read(self.root / "proc/meminfo"), re.MULTILINE)
        if match is None:
            return Finding(self.ability, Verdict.UNKNOWN, "/proc/meminfo can't be read", self.needed_for)
        free, limit = int(match[1]) // 1024, read(self.root / "sys/fs/cgroup/memory.max")
        where = "free"
        if limit.isdigit() and int(limit) >> 20 < free:
            free, where = int(limit) >> 20, "allowed by this control group"
        verdict = Verdict.OK if free >= self.mib else Verdict.MISSING
        return Finding(self.ability, verdict, f"{free} MiB {where}, {self.mib} MiB needed", self.needed_for)


@dataclass(frozen=True)
class Disk:
    """Room for images where the cache is, or will be."""

    folder: Path
    mib: int
    ability: str = "disk"

    def look(self) -> Finding:
        """See `Probe`."""
        place = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(place).free >> 20
        seen = f"{free} MiB free for {self.folder}, {self.mib} MiB needed"
        if not os.access(place, os.W_OK):
            return Finding(self.ability, Verdict.DENIED, f"{place} is not writable", "images", _MOVE_CACHE)
        if free < self.mib:
            return Finding(self.ability, Verdict.MISSING, seen, "images", _MOVE_CACHE)
        return Finding(self.ability, Verdict.OK, seen, "images")


_MOVE_CACHE = "export XDG_CACHE_HOME=/a/folder/with/room"


def _which(program: str) -> str | None:
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(program, path=f"{path}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Tools:
    """Programs that must be installed. `programs` maps each to its Debian package."""

    ability: str
    needed_for: str
    programs: Mapping[str, str]
    which: Callable[[str], str | None] = field(default=_which)

    def look(self) -> Finding:
        """See `Probe`."""
        found = {program: self.which(program) for program in self.programs}
        missing = [program for program, path in found.items() if path is None]
        if not missing:
            return Finding(self.ability, Verdict.OK, ", ".join(map(str, found.values())), self.needed_for)
        packages = " ".join(sorted({self.programs[program] for program in missing}))
        return Finding(
            self.ability,
            Verdict.MISSING,
            f"not installed: {', '.join(missing)}",
            self.needed_for,
            as_root(f"apt-get install --no-install-recommends {packages}"),
        )


@dataclass(frozen=True)
class Nested:
    """Nested virtualisation, which lets a lab run under KVM instead of in emulation."""

    root: Path = ROOT
    ability: str = "nested-kvm"

    def look(self) -> Finding:
        """See `Probe`."""
        needed = "a fast lab (an emulated one needs none)"
        for module in ("kvm_intel", "kvm_amd"):
            value = read(self.root / "sys/module" / module / "parameters/nested")
            if value in {"1", "Y"}:
                return Finding(self.ability, Verdict.OK, f"{module} has nested={value}", needed)
            if value:
                mend = as_root(f"modprobe -r {module} && ") + as_root(f"modprobe {module} nested=1")
                return Finding(self.ability, Verdict.MISSING, f"{module} has nested={value}", needed, mend)
        return Finding(self.ability, Verdict.NOT_NEEDED, "neither kvm_intel nor kvm_amd is loaded", needed)
