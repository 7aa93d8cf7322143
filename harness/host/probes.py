"""Probes of the kernel, memory, disk and programs. KVM, vhost and QEMU have modules of their own."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.agent.errnos import errno_name
from harness.host import kernel, mends
from harness.host.finding import Finding, Step, Verdict
from harness.host.mends import Mend

ROOT = Path("/")
SEED_KERNEL = (4, 8)
MULTI_TRANSPORT_KERNEL = (5, 5)

VMCI = "vmw_vsock_vmci_transport"
ONLY_TRANSPORTS = (VMCI, "vmw_vsock_virtio_transport", "hv_sock")
"""Guest transports: of VMware, of QEMU and KVM, of Hyper-V."""

NEEDS_VMCI = "local, in a guest of VMware, KVM or Hyper-V"


@dataclass(frozen=True)
class Kernel:
    """The seed's requirement: a host kernel of at least 4.8."""

    root: Path = ROOT
    ability: str = "kernel"

    def look(self) -> Finding:
        """See `Probe`."""
        seen, version = kernel.release(self.root), kernel.version(self.root)
        verdict = Verdict.OK if version >= SEED_KERNEL else Verdict.MISSING
        if version == (0, 0):
            verdict = Verdict.UNKNOWN
        return Finding(
            self.ability, verdict, f"Linux {seen or '?'}, at least 4.8 is needed", "local: vhost_vsock"
        )


def _vsock_socket() -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@dataclass(frozen=True)
class AfVsock:
    """Whether this process may make AF_VSOCK sockets. Makes one, connects to nothing.

    Where vsock is not loaded, that loads VMware's transport, which has the alias net-pf-40 (vmci_transport.c;
    seen on 5.10 to 7.2). So on kernels before 5.5, where it would shut vhost_vsock out, none is made then.
    """

    root: Path = ROOT
    ability: str = "af-vsock"
    make: Callable[[], None] = _vsock_socket

    def look(self) -> Finding:
        """See `Probe`."""
        old = (0, 0) < kernel.version(self.root) < MULTI_TRANSPORT_KERNEL
        if old and kernel.module_state("vsock", self.root) == "loadable":
            seen = (
                f"vsock is not loaded; a socket would load {VMCI}, and that keeps vhost_vsock out before 5.5"
            )
            return Finding(self.ability, Verdict.UNKNOWN, f"{seen}: mend vhost-vsock first", "local")
        try:
            self.make()
        except OSError as error:
            verdict, why, mend = self._explain(error)
            name = errno_name(error)
            seen = f"socket(AF_VSOCK) fails with {name}: {why}"
            return Finding(self.ability, verdict, seen, "local", mend.text, mend.steps)
        return Finding(self.ability, Verdict.OK, "socket(AF_VSOCK) works", "local")

    def _explain(self, error: OSError) -> tuple[Verdict, str, Mend]:
        if error.errno == errno.EAFNOSUPPORT:
            return self._no_family()
        if error.errno in {errno.EPERM, errno.EACCES, errno.ENOSYS}:
            if kernel.seccomp_filtered(self.root):
                why = "a seccomp filter denies it, as Docker's and Podman's default profiles do"
                return Verdict.DENIED, why, Mend("docker run --security-opt seccomp=unconfined ...")
            return Verdict.DENIED, "a security module (AppArmor, SELinux) denies it", mends.NOTHING
        return Verdict.BROKEN, error.strerror or "", mends.NOTHING

    def _no_family(self) -> tuple[Verdict, str, Mend]:
        """socket(2) loads the module itself (alias net-pf-40), so something kept it from that."""
        state = kernel.module_state("vsock", self.root)
        if state in {"loaded", "built in"} and kernel.seccomp_filtered(self.root):
            filtered = "a seccomp filter denies it, as RestrictAddressFamilies= of systemd.exec(5) does"
            return Verdict.DENIED, f"vsock is {state}, so {filtered}", mends.NOTHING
        if state in {"loaded", "built in"}:
            return Verdict.BROKEN, f"although vsock is {state}", mends.NOTHING
        why = f"the kernel has no vsock loaded; the module is {state}"
        loadable = state == "loadable" or (state == "absent" and kernel.in_container(self.root))
        return Verdict.MISSING, why, mends.load("vsock", self.root) if loadable else mends.NOTHING


@dataclass(frozen=True)
class Vmci:
    """VMware's vsock transport, and others that shut vhost_vsock out on kernels before 5.5.

    Since commit c0cfa2d8a788 (5.5) several transports live side by side, but one to guests and one to a host
    only. VMware's becomes the one to guests while something that runs VMs has /dev/vmci open
    (vmci_transport.c, vmci_vsock_transport_cb), and then vhost_vsock can't be loaded; seen on 5.10 to 7.2.
    """

    root: Path = ROOT
    ability: str = "vmci-transport"

    def look(self) -> Finding:
        """See `Probe`."""
        loaded = self._loaded()
        old = kernel.version(self.root) < MULTI_TRANSPORT_KERNEL
        seen = f"{', '.join(loaded)} is loaded" if loaded else f"{VMCI} is not loaded"
        if self._runs_vms():
            mend = self.mend()
            seen += (
                " and /dev/vmci in use: VMware runs VMs here, and Linux takes one transport to guests (EBUSY)"
            )
            return Finding(self.ability, Verdict.BROKEN, seen, NEEDS_VMCI, mend.text, mend.steps)
        if not loaded or not old:
            harmless = " (harmless since Linux 5.5)" if loaded else ""
            return Finding(self.ability, Verdict.NOT_NEEDED, seen + harmless, NEEDS_VMCI)
        mend = self.mend()
        seen += f", and Linux {kernel.release(self.root)} takes only one vsock transport (EBUSY)"
        return Finding(self.ability, Verdict.BROKEN, seen, NEEDS_VMCI, mend.text, mend.steps)

    def mend(self) -> Mend:
        """Make room for vhost_vsock and load it; nothing where there is room.

        Only VMware's is unloaded by --fix: over the others this guest itself may be talked to.
        """
        loaded = self._loaded()
        if self._runs_vms():
            return self._unload_by_hand()
        if not loaded or kernel.version(self.root) >= MULTI_TRANSPORT_KERNEL:
            return mends.NOTHING
        tools = guest_tools(self.root)
        stop = [("systemctl", "stop", unit) for unit in tools] if VMCI in loaded else []
        commands = [("modprobe", "-r", *loaded), ("modprobe", "-i", "vhost_vsock")]
        if kernel.in_container(self.root):
            text = " && ".join(f"sudo {shlex.join(command)}" for command in commands)
            return Mend(f"{text}  # on this container's host")
        shown = stop or ([("systemctl", "stop", "vmware-tools")] if VMCI in loaded else [])
        text = "; ".join(mends.as_root(shlex.join(command)) for command in [*shown, *commands])
        if loaded != [VMCI]:
            return Mend(f"{text}  # ends this guest's own vsock connections")
        return Mend(text, tuple(map(Step, [*stop, *commands])))

    def _runs_vms(self) -> bool:
        """Whether VMware's is the transport to guests here, and vhost_vsock came too late."""
        new = kernel.version(self.root) >= MULTI_TRANSPORT_KERNEL
        late = kernel.module_state("vhost_vsock", self.root) not in {"loaded", "built in"}
        return new and late and VMCI in self._loaded() and kernel.module_in_use("vmw_vmci", self.root)

    def _unload_by_hand(self) -> Mend:
        words = [mends.as_root(f"modprobe -r {VMCI}"), mends.as_root("modprobe -i vhost_vsock")]
        where = ", on this container's host" if kernel.in_container(self.root) else ""
        return Mend(f"{'; '.join(words)}  # VMware's VMs lose their vsock{where}")

    def _loaded(self) -> list[str]:
        there = kernel.modules_loaded(self.root)
        return [name for name in ONLY_TRANSPORTS if name in there]


def guest_tools(root: Path) -> list[str]:
    """Units of VMware's guest tools installed here; they use the transport, which can't be unloaded then.

    VMware's own are ``vmware-tools``, as in the seed; Debian's are ``open-vm-tools``, Fedora's ``vmtoolsd``.
    """
    folders = (
        "etc/systemd/system",
        "usr/lib/systemd/system",
        "lib/systemd/system",
        "run/systemd/generator.late",
    )
    return [
        unit
        for unit in ("vmware-tools", "open-vm-tools", "vmtoolsd")
        if any((root / folder / f"{unit}.service").exists() for folder in folders)
    ]


@dataclass(frozen=True)
class Memory:
    """Memory that is free now, within this control group's limit."""

    ability: str
    needed_for: str
    mib: int
    root: Path = ROOT

    def look(self) -> Finding:
        """See `Probe`."""
        match = re.search(r"^MemAvailable:\s+(\d+) kB", kernel.read(self.root / "proc/meminfo"), re.MULTILINE)
        if match is None:
            return Finding(self.ability, Verdict.UNKNOWN, "/proc/meminfo can't be read", self.needed_for)
        free, limit = int(match[1]) // 1024, kernel.read(self.root / "sys/fs/cgroup/memory.max")
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
    return shutil.which(program, path=f"{path}:{mends.PROGRAMS}")


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
        seen = f"not installed: {', '.join(missing)}"
        if self.which("apt-get") is None:
            seen = f"{seen}; Debian has it in {packages}, and this is no Debian"
            return Finding(self.ability, Verdict.MISSING, seen, self.needed_for)
        mend = mends.as_root(f"apt-get install --no-install-recommends {packages}")
        return Finding(self.ability, Verdict.MISSING, seen, self.needed_for, mend)


@dataclass(frozen=True)
class Nested:
    """Nested virtualisation, which lets a lab run under KVM instead of in emulation."""

    root: Path = ROOT
    ability: str = "nested-kvm"

    def look(self) -> Finding:
        """See `Probe`."""
        needed = "a fast lab (an emulated one needs none)"
        for module in ("kvm_intel", "kvm_amd"):
            value = kernel.read(self.root / "sys/module" / module / "parameters/nested")
            if value in {"1", "Y"}:
                return Finding(self.ability, Verdict.OK, f"{module} has nested={value}", needed)
            if value:
                seen = f"{module} has nested={value}"
                return Finding(self.ability, Verdict.MISSING, seen, needed, self._mend(module))
        return Finding(self.ability, Verdict.NOT_NEEDED, "neither kvm_intel nor kvm_amd is loaded", needed)

    def _mend(self, module: str) -> str:
        if module not in kernel.modules_loaded(self.root):
            return f"boot with {module}.nested=1 on the kernel's command line  # it is built in"
        commands = (f"modprobe -r {module}", f"modprobe {module} nested=1")
        if kernel.in_container(self.root):
            return " && ".join(f"sudo {command}" for command in commands) + "  # on this container's host"
        return " && ".join(map(mends.as_root, commands)) + "  # while no VM runs"
