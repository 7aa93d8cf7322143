"""vhost_vsock on a host: the module's state, who may open the device, and what mends it."""

from __future__ import annotations

import errno
import grp
import gzip
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host import kernel as running
from harness.host import mends, probe_vhost
from harness.host.cid import CidLease
from harness.host.finding import Verdict
from harness.model.errors import HostUnfit
from tests.unit.roots import RELEASE, STATES, commands, container, kernel, state, write


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
