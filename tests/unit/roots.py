"""Roots of hosts as the probes look at them: kernels, modules, containers."""

from __future__ import annotations

from pathlib import Path

from harness.host.finding import Finding

RELEASE = "6.1.0-9-amd64"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kernel(root: Path, release: str = RELEASE) -> Path:
    write(root, "proc/sys/kernel/osrelease", release + "\n")
    return root


STATES = {
    "loaded": ("proc/modules", "{name} 24576 0 - Live 0x0\n"),
    "built in": (f"lib/modules/{RELEASE}/modules.builtin", "kernel/x/{name}.ko\n"),
    "loadable": (f"lib/modules/{RELEASE}/modules.dep", "kernel/x/{name}.ko.xz: a.ko\n"),
    "not built": (f"boot/config-{RELEASE}", "CONFIG_A=y\n# CONFIG_{option} is not set\n"),
    "absent": (f"lib/modules/{RELEASE}/modules.dep", "kernel/x/not_{name}_x.ko:\n"),
}


def state(root: Path, name: str, module: str = "vhost_vsock") -> Path:
    file, text = STATES[name]
    option = {"vsock": "VSOCKETS"}.get(module, module.upper())
    write(kernel(root), file, text.format(name=module, option=option))
    return root


def container(root: Path, *, inside: bool = True) -> Path:
    (root / "proc/self/ns").mkdir(parents=True)
    number = 4026532288 if inside else 4026531836
    (root / "proc/self/ns/pid").symlink_to(f"pid:[{number}]")
    return root


def commands(found: Finding) -> list[str]:
    return [" ".join(step.argv) for step in found.fix]
