from __future__ import annotations

import errno
import grp
import gzip
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host import kernel as running
from harness.host import mends, probe_vhost, probes
from harness.host.cid import CidLease
from harness.host.finding import Finding, Verdict
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
    assert commands(found) == (
        ["modprobe -r vmw_vsock_vmci_transport", "modprobe -i vhost_vsock"]
        if verdict is Verdict.BROKEN
        else []
    )


@pytest.mark.parametrize(
    ("row", "used"),
    [
        ("vmw_vmci 98304 1 vmw_vsock_vmci_transport, Live 0x0", False),
        ("vmw_vmci 98304 2 vmw_vsock_vmci_transport, Live 0x0", True),
        ("vmw_vmci 98304 2 vmw_vsock_vmci_transport,vmw_balloon, Live 0x0", False),
        ("vmw_vmci 98304 1 - Live 0x0", True),
        ("vmw_vmci 98304 0 - Live 0x0", False),
        ("vmw_vmci 98304 - - Live 0x0", False),
        ("vmw_vmci", False),
        ("other 98304 2 - Live 0x0", False),
    ],
)
def test_a_module_in_use_is_held_by_more_than_modules(tmp_path: Path, row: str, used: bool) -> None:
    write(tmp_path, "proc/modules", row + "\n")
    assert running.module_in_use("vmw_vmci", tmp_path) == used


@pytest.mark.parametrize(
    ("release", "references", "vhost", "verdict"),
    [
        ("6.12.1", 2, "", Verdict.BROKEN),
        ("5.10.0", 2, "", Verdict.BROKEN),
        ("6.12.1", 1, "", Verdict.NOT_NEEDED),
        ("6.12.1", 2, "vhost_vsock 1 0 - Live 0x0\n", Verdict.NOT_NEEDED),  # it came first
    ],
)
def test_vmci_shuts_vhost_out_where_vmware_runs_vms(
    tmp_path: Path, release: str, references: int, vhost: str, verdict: Verdict
) -> None:
    kernel(tmp_path, release)
    vmci = f"vmw_vmci 1 {references} {probes.VMCI}, Live 0x0\n{probes.VMCI} 1 0 - Live 0x0\n"
    write(tmp_path, "proc/modules", vmci + vhost)
    found = probes.Vmci(tmp_path).look()
    assert found.verdict is verdict
    assert not found.fix  # it ends what VMware's VMs do
    if verdict is Verdict.BROKEN:
        assert "VMware runs VMs here" in found.seen
        assert re.search(f"modprobe -r {probes.VMCI}; .*modprobe -i vhost_vsock  # ", found.mend)


@pytest.mark.parametrize("unit", ["vmware-tools", "open-vm-tools"])
def test_the_guest_tools_that_are_there_are_stopped_first(tmp_path: Path, unit: str) -> None:
    kernel(tmp_path, "5.4.0")
    write(tmp_path, "proc/modules", "vmw_vsock_vmci_transport 1 0 - Live 0x0\n")
    write(tmp_path, f"usr/lib/systemd/system/{unit}.service", "")
    found = probes.Vmci(tmp_path).look()
    assert commands(found)[0] == f"systemctl stop {unit}"
    assert f"systemctl stop {unit};" in found.mend


@pytest.mark.parametrize("module", ["vmw_vsock_virtio_transport", "hv_sock"])
def test_a_guests_own_transport_is_unloaded_by_hand_only(tmp_path: Path, module: str) -> None:
    kernel(tmp_path, "5.4.0")
    write(tmp_path, "proc/modules", f"{module} 1 0 - Live 0x0\n")
    found = probes.Vmci(tmp_path).look()
    assert found.verdict is Verdict.BROKEN
    assert f"{module} is loaded" in found.seen
    assert f"modprobe -r {module}" in found.mend
    assert "vmware" not in found.mend
    assert not found.fix


@pytest.mark.parametrize(
    ("number", "seccomp", "vsock", "verdict", "says", "mend"),
    [
        (errno.EAFNOSUPPORT, 0, "loadable", Verdict.MISSING, "loadable", "modprobe vsock"),
        (errno.EAFNOSUPPORT, 0, "absent", Verdict.MISSING, "absent", ""),
        (errno.EAFNOSUPPORT, 2, "loaded", Verdict.DENIED, "RestrictAddressFamilies", ""),
        (errno.EAFNOSUPPORT, 0, "loaded", Verdict.BROKEN, "although vsock is loaded", ""),
        (errno.EPERM, 2, "absent", Verdict.DENIED, "seccomp", "docker run --security-opt"),
        (errno.EACCES, 0, "absent", Verdict.DENIED, "security module", ""),
        (errno.ENOMEM, 0, "absent", Verdict.BROKEN, "ENOMEM", ""),
    ],
)
def test_af_vsock(
    tmp_path: Path, number: int, seccomp: int, vsock: str, verdict: Verdict, says: str, mend: str
) -> None:
    write(tmp_path, "proc/self/status", f"Name:\tx\nSeccomp:\t{seccomp}\n")
    state(tmp_path, vsock, "vsock")

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    found = probes.AfVsock(tmp_path, make=fail).look()
    assert found.verdict is verdict
    assert says in found.seen
    assert mend in found.mend
    assert bool(mend) == bool(found.mend)
    assert commands(found) == (["modprobe vsock"] if "modprobe" in mend else [])


@pytest.mark.parametrize(
    ("release", "vsock", "made"),
    [("5.4.0", "loadable", False), ("5.4.0", "loaded", True), ("5.5.0", "loadable", True)],
)
def test_no_socket_loads_a_transport_that_would_shut_vhost_out(
    tmp_path: Path, release: str, vsock: str, made: bool
) -> None:
    kernel(tmp_path, release)
    write(tmp_path, "proc/modules", "vsock 1 0 - Live 0x0\n" if vsock == "loaded" else "x 1 0\n")
    write(tmp_path, f"lib/modules/{release}/modules.dep", "kernel/net/vmw_vsock/vsock.ko:\n")
    calls: list[None] = []
    found = probes.AfVsock(tmp_path, make=lambda: calls.append(None)).look()
    assert bool(calls) == made
    assert found.verdict is (Verdict.OK if made else Verdict.UNKNOWN)


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
    there = {"ls": "/bin/ls", "apt-get": "/usr/bin/apt-get"}
    found = probes.Tools("t", "x", programs, which=there.get).look()
    assert found.verdict is Verdict.MISSING
    assert not found.fix
    assert found.seen == "not installed: mkfs.erofs, fsck.erofs"
    assert found.mend.endswith("apt-get install --no-install-recommends erofs-utils")
    assert probes.Tools("t", "x", {"sh": "dash"}).look().verdict is Verdict.OK


def test_where_there_is_no_apt_no_command_is_made_up() -> None:
    found = probes.Tools("t", "x", {"mkfs.erofs": "erofs-utils"}, which=lambda name: None).look()
    assert not found.mend
    assert "erofs-utils" in found.seen


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("Y", Verdict.OK), ("1", Verdict.OK), ("N", Verdict.MISSING), (None, Verdict.NOT_NEEDED)],
)
def test_nested(tmp_path: Path, value: str | None, verdict: Verdict) -> None:
    if value:
        write(tmp_path, "sys/module/kvm_amd/parameters/nested", value + "\n")
    found = probes.Nested(tmp_path).look()
    assert found.verdict is verdict
    assert not found.fix  # it would end every VM


def test_nested_of_a_module_that_is_built_in_is_a_kernel_parameter(tmp_path: Path) -> None:
    write(tmp_path, "sys/module/kvm_intel/parameters/nested", "N\n")
    assert "kvm_intel.nested=1" in probes.Nested(tmp_path).look().mend
    write(tmp_path, "proc/modules", "kvm_intel 1 0 - Live 0x0\n")
    mend = probes.Nested(tmp_path).look().mend
    assert "modprobe -r kvm_intel && " in mend
    assert "modprobe kvm_intel nested=1" in mend


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


@pytest.mark.parametrize("module", ["vhost_vsock", "vsock", "kvm_amd"])
@pytest.mark.parametrize("name", STATES)
def test_module_state(tmp_path: Path, name: str, module: str) -> None:
    assert running.module_state(module, state(tmp_path, name, module)) == name


def test_a_container_is_known_by_its_namespaces(tmp_path: Path) -> None:
    assert not running.in_container(tmp_path)
    write(tmp_path, ".dockerenv", "")
    assert running.in_container(tmp_path)
    container(tmp_path, inside=False)
    assert not running.in_container(tmp_path)  # a VM made of a container's image
    (tmp_path / "proc/self/ns/cgroup").symlink_to("cgroup:[4026532300]")
    assert running.in_container(tmp_path)


def test_module_state_from_the_running_kernels_configuration(tmp_path: Path) -> None:
    kernel(tmp_path)
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_VHOST_VSOCK=y\n"))
    assert running.module_state("vhost_vsock", tmp_path) == "built in"


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
        ("loaded", errno.ENOENT, Verdict.MISSING, "mknod -m 0660 /dev/vhost-vsock c 10 241"),
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
    assert commands(found) == (["modprobe -i vhost_vsock"] if "modprobe" in mend else [])


def lost(number: int) -> Callable[[Path], int]:
    def claim(device: Path) -> int:
        raise refused(number)

    return claim


def test_the_module_is_loaded_at_boot_too_where_systemd_is(tmp_path: Path) -> None:
    state(tmp_path, "loadable")
    (tmp_path / "etc/modules-load.d").mkdir(parents=True)
    found = probe_vhost.VhostVsock(tmp_path, claim=lost(errno.ENOENT)).look()
    assert [step.argv[0] for step in found.fix] == ["modprobe", "sh"]
    assert found.fix[1].argv[2] == "echo vhost_vsock > /etc/modules-load.d/vsock-harness-vhost_vsock.conf"
    write(tmp_path, "usr/lib/modules-load.d/kata.conf", "# of Kata\nvhost_vsock\n")
    found = probe_vhost.VhostVsock(tmp_path, claim=lost(errno.ENOENT)).look()
    assert commands(found) == ["modprobe -i vhost_vsock"]


def test_a_blacklist_is_named_and_left_to_its_author(tmp_path: Path) -> None:
    state(tmp_path, "loadable")
    write(tmp_path, "etc/modprobe.d/hardening.conf", "# x\nblacklist vhost-vsock\n")
    found = probe_vhost.VhostVsock(tmp_path, claim=lost(errno.ENODEV)).look()
    assert "blacklisted in" in found.seen
    assert "hardening.conf" in found.seen
    assert "modprobe -i vhost_vsock" in found.mend
    assert not found.fix


@pytest.mark.parametrize("name", ["loaded", "built in", "loadable", "absent"])
def test_in_a_container_the_hosts_kernel_is_mended_by_hand(tmp_path: Path, name: str) -> None:
    state(container(tmp_path), name)
    write(tmp_path, "etc/os-release", "ID=ubuntu\n")  # of the container, which says nothing of the kernel
    found = probe_vhost.VhostVsock(tmp_path, claim=lost(errno.ENOENT)).look()
    assert "docker run --device /dev/vhost-vsock" in found.mend
    assert ("on this container's host" in found.mend) == (name in {"loadable", "absent"})
    assert not found.fix


def test_modules_that_an_upgrade_took_away_need_a_reboot(tmp_path: Path) -> None:
    write(
        kernel(tmp_path), "lib/modules/6.1.0-10-amd64/modules.dep", "kernel/drivers/vhost/vhost_vsock.ko:\n"
    )
    found = probe_vhost.VhostVsock(tmp_path, claim=lost(errno.ENOENT)).look()
    assert "upgraded since boot" in found.seen
    assert found.mend.endswith("reboot")
    assert not found.fix


DAEMON = 1
"""A user and a group everywhere."""

KVM = grp.struct_group(("kvm", "x", 107, []))
IN_KVM = grp.struct_group(("kvm", "x", 107, ["daemon"]))


@pytest.mark.parametrize(
    ("uid", "number", "mode", "group", "groups", "mend", "fix"),
    [
        (1, errno.EACCES, 0o600, KVM, [1], "sudo chmod 0666 {}", ["chmod 0666 {}"]),
        (
            1,
            errno.EACCES,
            0o660,
            KVM,
            [1],
            "sudo usermod -aG kvm daemon  # then log in again",
            ["usermod -aG kvm daemon"],
        ),
        (1, errno.EACCES, 0o660, IN_KVM, [1], "newgrp kvm  # daemon is in it, but this login is older", []),
        (1, errno.EACCES, 0o660, IN_KVM, [1, 107], "", []),
        (1, errno.EPERM, 0o660, IN_KVM, [1, 107], "docker run --device {} ...", []),
        (
            1,
            errno.EACCES,
            0o660,
            grp.getgrgid(DAEMON),
            [2],
            "newgrp daemon",
            [],
        ),  # its first
        (
            1,
            errno.EACCES,
            0o660,
            grp.struct_group(("disk", "x", 6, [])),
            [1],
            "sudo usermod -aG disk daemon",
            [],
        ),
        (1, errno.EACCES, 0o660, None, [1], "sudo chmod 0666 {}", ["chmod 0666 {}"]),  # no such name
        (0, errno.EPERM, 0o600, KVM, [0], "docker run --device {} ...", []),
    ],
)
def test_denied_device_says_how_to_be_let_in(
    tmp_path: Path,
    uid: int,
    number: int,
    mode: int,
    group: grp.struct_group | None,
    groups: list[int],
    mend: str,
    fix: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = tmp_path / "vhost-vsock"
    device.touch()
    denying(monkeypatch, device, mode, 4711 if group is None else group.gr_gid)

    def named(number: int) -> grp.struct_group:
        if group is None:
            raise KeyError(number)
        return group

    monkeypatch.setattr(grp, "getgrgid", named)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getuid", lambda: DAEMON)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    found = probe_vhost.VhostVsock(tmp_path, device, lost(number)).look()
    assert found.verdict is Verdict.DENIED
    assert mend.format(device) in found.mend
    assert bool(mend) == bool(found.mend)
    assert commands(found) == [line.format(device) for line in fix]


def denying(monkeypatch: pytest.MonkeyPatch, device: Path, mode: int, group: int) -> None:
    status = list(device.stat())
    status[0], status[5] = mode, group
    real = Path.stat

    def fake(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat_result(status) if self == device else real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", fake)


def test_a_device_that_was_opened_stays_open_by_a_udev_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "vhost-vsock"
    device.touch()
    (tmp_path / "etc/udev/rules.d").mkdir(parents=True)
    denying(monkeypatch, device, 0o600, 0)
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)
    step = mends.let_in(device, errno.EACCES, tmp_path).steps[1]
    script = step.argv[2].replace("/etc/udev", f"{tmp_path}/etc/udev")
    subprocess.run(["sh", "-c", script], check=True)
    rule = (tmp_path / "etc/udev/rules.d/99-vsock-harness-vhost-vsock.rules").read_text()
    assert rule == 'KERNEL=="vhost-vsock", MODE="0666"\n'


def test_in_a_container_a_group_is_handed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = container(tmp_path) / "kvm"
    device.touch()
    denying(monkeypatch, device, 0o660, 107)
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)
    mend = mends.let_in(device, errno.EACCES, tmp_path)
    assert mend == mends.Mend(f"docker run --device {device} --group-add 107 ...")


def test_an_old_kernel_with_vmci_is_mended_in_the_right_order(tmp_path: Path) -> None:
    state(tmp_path, "loadable")
    kernel(tmp_path, "5.3.0")
    write(tmp_path, "lib/modules/5.3.0/modules.dep", "kernel/drivers/vhost/vhost_vsock.ko:\n")
    write(tmp_path, "proc/modules", "vmw_vsock_vmci_transport 1 0 - Live 0x0\n")

    def claim(device: Path) -> int:
        raise refused(errno.ENODEV)

    mend = probe_vhost.VhostVsock(tmp_path, claim=claim).look().mend
    assert mend.index("stop vmware-tools") < mend.index("-r vmw_vsock") < mend.index("-i vhost_vsock")
    # no such unit is installed, so there is nothing to stop
    assert [step.argv[1] for step in probe_vhost.VhostVsock(tmp_path, claim=claim).look().fix] == ["-r", "-i"]


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
