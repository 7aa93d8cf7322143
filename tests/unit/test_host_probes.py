from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest

from harness.host import kernel as running
from harness.host import probes
from harness.host.finding import Verdict
from tests.unit.roots import commands, kernel, state, write


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
