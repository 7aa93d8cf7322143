"""What the running kernel is and has: release, modules, seccomp, and whether this is a container on it.

`root` is where /proc, /sys, /etc and /lib/modules are looked for: "/" but in tests.
"""

from __future__ import annotations

import contextlib
import gzip
import re
from pathlib import Path

_FIRST_NAMESPACES = {"pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB}
"""Numbers that the kernel's first namespaces always have (include/linux/proc_ns.h, PROC_PID_INIT_INO ...)."""

_MODPROBE_CONFIGURATION = ("etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")


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


def cpu(root: Path = Path("/")) -> str:
    """Model, microcode and features of the first CPU: what ``-cpu host`` puts into a VM's saved state."""
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags")
    first = read(root / "proc/cpuinfo").split("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.split("\t")[0] in wanted)


def modules_loaded(root: Path) -> set[str]:
    """Names in /proc/modules: what is loaded, without what is built in."""
    return {line.split()[0] for line in read(root / "proc/modules").splitlines()}


def module_in_use(name: str, root: Path) -> bool:
    """Whether something else than other modules holds a module: an open device, a socket, a mount.

    From its references and the modules that depend on it in /proc/modules.
    """
    rows = (line.split() for line in read(root / "proc/modules").splitlines())
    row = next((row for row in rows if row[0] == name), [])
    if len(row) < 4 or not row[2].isdecimal():
        return False
    return int(row[2]) > len([user for user in row[3].split(",") if user not in ("", "-")])


def module_state(name: str, root: Path = Path("/")) -> str:
    """``loaded``, ``built in``, ``loadable``, ``not built`` or ``absent``: what this kernel has of a module.

    From /proc/modules, modules.builtin and modules.dep of depmod(8), then the kernel's configuration.
    ``absent`` says that no trace was found; in a container the host's modules may just be hidden.
    """
    if name in modules_loaded(root):
        return "loaded"
    folder = root / "lib/modules" / release(root)
    file = re.compile(rf"/{re.escape(name).replace('_', '[_-]')}\.ko", re.MULTILINE)
    if file.search(read(folder / "modules.builtin")):
        return "built in"
    if file.search(read(folder / "modules.dep")):
        return "loadable"
    option = _option(name, root)
    return {"y": "built in", "n": "not built"}.get(option, "absent")


def _option(module: str, root: Path) -> str:
    """``y``, ``m``, ``n`` as the kernel's configuration says, "" if it's not to be had."""
    name = {"vsock": "CONFIG_VSOCKETS"}.get(module, f"CONFIG_{module.upper()}")
    text = read(root / "boot" / f"config-{release(root)}")
    if not text:
        with contextlib.suppress(OSError):
            text = gzip.decompress((root / "proc/config.gz").read_bytes()).decode(errors="replace")
    match = re.search(rf"^(?:{name}=([ym])|# ({name}) is not set)$", text, re.MULTILINE)
    if match is None:
        return ""
    return match[1] or "n"


def blacklisted(module: str, root: Path) -> str:
    """The file of modprobe.d(5) that keeps the kernel from loading the module by itself, "" if none does."""
    rule = re.compile(rf"^\s*blacklist\s+{re.escape(module).replace('_', '[_-]')}\s*$", re.MULTILINE)
    for folder in _MODPROBE_CONFIGURATION:
        for path in sorted((root / folder).glob("*.conf")):
            if rule.search(read(path)):
                return str(path)
    return ""


def replaced_since_boot(root: Path) -> bool:
    """Whether the running kernel's modules are gone, but another kernel's are there: it was upgraded."""
    folder = root / "lib/modules"
    return folder.is_dir() and any(folder.iterdir()) and not (folder / release(root)).is_dir()


def seccomp_filtered(root: Path) -> bool:
    """Whether this process runs under a seccomp filter (proc_pid_status(5), Seccomp: 2)."""
    return bool(re.search(r"^Seccomp:\s*2$", read(root / "proc/self/status"), re.MULTILINE))


def in_container(root: Path) -> bool:
    """Whether this process is in a container, so that modules and device nodes are its host's business.

    It is if its pid or cgroup namespace is not the kernel's first one. Where /proc tells of neither, the
    files that Docker and Podman leave count.
    """
    links = {kind: _link(root / "proc/self/ns" / kind) for kind in _FIRST_NAMESPACES}
    if any(links.values()):
        return any(link and link != f"{kind}:[{_FIRST_NAMESPACES[kind]}]" for kind, link in links.items())
    return any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
