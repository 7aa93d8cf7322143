from __future__ import annotations

import errno
import gzip
import os
import socket
from pathlib import Path

import pytest

from harness.host import probe_vhost, probes
from harness.host.cid import CidLease
from harness.host.finding import Verdict
from harness.model.errors import HostUnfit

RELEASE = "6.1.0-9-amd64"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kernel(root: Path, release: str = RELEASE) -> Path:
    write(root, "proc/sys/kernel/osrelease", release + "\n")
    return root


@pytest.mark.parametrize(
    ("release", "verdict"),
    [
        ("4.7.10", Verdict.MISSING),
        ("4.8.0-1-amd64", Verdict.OK),
        ("4.19.0", Verdict.OK),
        ("10.0", Verdict.OK),
        ("", Verdict.UNKNOWN),
    ],
)
def test_kernel(tmp_path: Path, release: str, verdict: Verdict) -> None:
    assert probes.Kernel(kernel(tmp_path, release)).look().verdict is verdict


@pytest.mark.parametrize(
    ("loaded", "release", "verdict"),
    [
        (False, "4.19.0", Verdict.NOT_NEEDED),
        (True, "4.19.0", Verdict.BROKEN),
        (True, "5.4.0", Verdict.BROKEN),
        (True, "5.5.0", Verdict.NOT_NEEDED),
    ],
)
def test_vmci(tmp_path: Path, loaded: bool, release: str, verdict: Verdict) -> None:
    kernel(tmp_path, release)
    write(tmp_path, "proc/modules", "vmw_vsock_vmci_transport 1 0 - Live 0x0\n" if loaded else "x 1 0\n")
    found = probes.Vmci(tmp_path).look()
    assert found.verdict is verdict
    assert ("modprobe -r vmw_vsock_vmci_transport" in found.mend) == (verdict is Verdict.BROKEN)


@pytest.mark.parametrize(
    ("number", "seccomp", "verdict", "says"),
    [
        (errno.EAFNOSUPPORT, 0, Verdict.MISSING, "modprobe vsock"),
        (errno.EPERM, 2, Verdict.DENIED, "seccomp"),
        (errno.EACCES, 0, Verdict.DENIED, "security module"),
        (errno.ENOMEM, 0, Verdict.BROKEN, "ENOMEM"),
    ],
)
def test_af_vsock(tmp_path: Path, number: int, seccomp: int, verdict: Verdict, says: str) -> None:
    write(tmp_path, "proc/self/status", f"Name:\tx\nSeccomp:\t{seccomp}\n")

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    found = probes.AfVsock(tmp_path, make=fail).look()
    assert found.verdict is verdict
    assert says in found.seen + found.mend


def test_af_vsock_here_agrees_with_the_kernel() -> None:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
        allowed = True
    except OSError:
        allowed = False
    assert (probes.AfVsock().look().verdict is Verdict.OK) == allowed


@pytest.mark.parametrize(
    ("available", "limit", "verdict", "says"),
    [
        (8 << 20, "max", Verdict.OK, "8192 MiB free"),
        (8 << 20, str(1 << 30), Verdict.MISSING, "1024 MiB allowed"),
        (1 << 20, "", Verdict.MISSING, "1024 MiB free"),
    ],
)
def test_memory(tmp_path: Path, available: int, limit: str, verdict: Verdict, says: str) -> None:
    write(tmp_path, "proc/meminfo", f"MemTotal:  99999999 kB\nMemAvailable:   {available} kB\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", limit)
    found = probes.Memory("memory-lab", "lab", 4096, tmp_path).look()
    assert found.verdict is verdict
    assert says in found.seen


def test_memory_that_cannot_be_read(tmp_path: Path) -> None:
    assert probes.Memory("m", "lab", 1, tmp_path).look().verdict is Verdict.UNKNOWN


def test_disk_looks_where_the_cache_will_be(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert probes.Disk(folder, 1).look().verdict is Verdict.OK
    found = probes.Disk(folder, 1 << 40).look()
    assert found.verdict is Verdict.MISSING
    assert "XDG_CACHE_HOME" in found.mend
    assert not folder.exists()


def test_tools_name_the_packages_of_what_is_missing() -> None:
    programs = {"ls": "coreutils", "mkfs.erofs": "erofs-utils", "fsck.erofs": "erofs-utils"}
    found = probes.Tools("t", "x", programs, which=lambda name: "/bin/ls" if name == "ls" else None).look()
    assert found.verdict is Verdict.MISSING
    assert found.seen == "not installed: mkfs.erofs, fsck.erofs"
    assert found.mend.endswith("apt-get install --no-install-recommends erofs-utils")
    assert probes.Tools("t", "x", {"sh": "dash"}).look().verdict is Verdict.OK


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("Y", Verdict.OK), ("1", Verdict.OK), ("N", Verdict.MISSING), (None, Verdict.NOT_NEEDED)],
)
def test_nested(tmp_path: Path, value: str | None, verdict: Verdict) -> None:
    if value:
        write(tmp_path, "sys/module/kvm_amd/parameters/nested", value + "\n")
    assert probes.Nested(tmp_path).look().verdict is verdict


STATES = {
    "loaded": {"proc/modules": "vhost_vsock 24576 0 - Live 0x0\n"},
    "built in": {f"lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/vhost/vhost_vsock.ko\n"},
    "loadable": {f"lib/modules/{RELEASE}/modules.dep": "kernel/drivers/vhost/vhost_vsock.ko.xz: a.ko\n"},
    "not built": {f"boot/config-{RELEASE}": "CONFIG_A=y\n# CONFIG_VHOST_VSOCK is not set\n"},
    "absent": {f"lib/modules/{RELEASE}/modules.dep": "kernel/drivers/vhost/not_vhost_vsock_x.ko:\n"},
}


def state(root: Path, name: str) -> Path:
    for file, text in STATES[name].items():
        write(kernel(root), file, text)
    return root


@pytest.mark.parametrize("name", STATES)
def test_module_state(tmp_path: Path, name: str) -> None:
    assert probe_vhost.module_state("vhost_vsock", state(tmp_path, name)) == name


def test_module_state_from_the_running_kernels_configuration(tmp_path: Path) -> None:
    kernel(tmp_path)
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_VHOST_VSOCK=y\n"))
    assert probe_vhost.module_state("vhost_vsock", tmp_path) == "built in"


def refused(number: int) -> HostUnfit:
    error = HostUnfit("cannot open the device", ability="vhost-vsock")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize(
    ("name", "number", "verdict", "mend"),
    [
        ("loaded", 0, Verdict.OK, ""),
        ("built in", 0, Verdict.OK, ""),
        ("loadable", errno.ENOENT, Verdict.MISSING, "modprobe -i vhost_vsock"),
        ("loadable", errno.ENODEV, Verdict.MISSING, "modprobe -i vhost_vsock"),
        ("loaded", errno.ENOENT, Verdict.MISSING, "docker run --device"),
        ("not built", errno.ENOENT, Verdict.MISSING, ""),
        ("absent", errno.ENOENT, Verdict.MISSING, ""),
        ("loaded", errno.ENOTTY, Verdict.BROKEN, ""),
    ],
)
def test_vhost_vsock(tmp_path: Path, name: str, number: int, verdict: Verdict, mend: str) -> None:
    def claim(device: Path) -> int:
        if number:
            raise refused(number)
        return 4711

    found = probe_vhost.VhostVsock(state(tmp_path, name), claim=claim).look()
    assert found.verdict is verdict
    assert mend in found.mend
    assert bool(mend) == bool(found.mend)
    assert name in found.seen or name == "not built"
    assert ("4711" in found.seen) == (verdict is Verdict.OK)


@pytest.mark.parametrize(
    ("uid", "mode", "group", "says"),
    [
        (1000, 0o600, 0, "sudo chmod 0666"),
        (1000, 0o660, 1, "sudo usermod -aG daemon daemon"),
        (0, 0o600, 0, "docker run --device"),
    ],
)
def test_denied_device_says_how_to_be_let_in(
    tmp_path: Path, uid: int, mode: int, group: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "vhost-vsock"
    device.touch()
    status = list(device.stat())
    status[0], status[5] = mode, group
    real = Path.stat

    def fake(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat_result(status) if self == device else real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", fake)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getuid", lambda: 1)  # daemon, everywhere

    def claim(device: Path) -> int:
        raise refused(errno.EACCES)

    found = probe_vhost.VhostVsock(tmp_path, device, claim).look()
    assert found.verdict is Verdict.DENIED
    assert says in found.mend


def test_an_old_kernel_with_vmci_is_mended_in_the_right_order(tmp_path: Path) -> None:
    state(tmp_path, "loadable")
    kernel(tmp_path, "5.3.0")
    write(tmp_path, "lib/modules/5.3.0/modules.dep", "kernel/drivers/vhost/vhost_vsock.ko:\n")
    write(tmp_path, "proc/modules", "vmw_vsock_vmci_transport 1 0 - Live 0x0\n")

    def claim(device: Path) -> int:
        raise refused(errno.ENODEV)

    mend = probe_vhost.VhostVsock(tmp_path, claim=claim).look().mend
    assert mend.index("stop vmware-tools") < mend.index("-r vmw_vsock") < mend.index("-i vhost_vsock")


def test_an_ubuntu_cloud_kernel_is_told_of_its_extra_modules(tmp_path: Path) -> None:
    state(tmp_path, "absent")
    write(tmp_path, "etc/os-release", "ID=ubuntu\n")

    def claim(device: Path) -> int:
        raise refused(errno.ENOENT)

    mend = probe_vhost.VhostVsock(tmp_path, claim=claim).look().mend
    assert f"linux-modules-extra-{RELEASE}" in mend


def test_vhost_vsock_here_agrees_with_a_lease() -> None:
    try:
        with CidLease.claim() as lease:
            works = lease.cid > 2
    except HostUnfit:
        works = False
    assert (probe_vhost.VhostVsock().look().verdict is Verdict.OK) == works
