"""KVM and QEMU: what opens is tried, by a loop and a boot."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from harness.host import doctor, probe_kvm
from harness.host.finding import Finding, Verdict
from harness.host.paths import Cache
from harness.host.probe_kvm import Guest, Kvm
from harness.host.probe_qemu import DEVICES, QemuDevices
from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.spec import Qemu
from tests.unit.hangs import HANGS

UP = "echo Linux version; echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'; exec sleep 1000"


DEP = "lib/modules/6.1/modules.dep"
CONFIG = "boot/config-6.1"


def program(path: Path, script: str) -> Qemu:
    path.write_text(f'#!/bin/sh\necho "$@" >> {path}.calls\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Qemu(argv=(str(path),), env={"FROM": "here"})


def guest(tmp_path: Path, script: str) -> Guest:
    (tmp_path / "vmlinux").touch()
    return Guest(program(tmp_path / "qemu", script), tmp_path / "vmlinux")


def host(root: Path, boot_id: str) -> Path:
    path = root / "proc/sys/kernel/random/boot_id"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(boot_id)
    return root


def opens(device: Path) -> None:
    pass


def fast(device: Path) -> float:
    return 1.0


def test_boot_that_comes_up_leaves_no_process(tmp_path: Path) -> None:
    made = guest(tmp_path, f"echo $$ > {tmp_path}/pid; {UP}")
    with RunFolder.create(tmp_path) as folder:
        assert probe_kvm.boot(made, folder, Deadline(HANGS)).up
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
    call = (tmp_path / "qemu.calls").read_text()
    assert "-accel kvm -cpu host" in call
    assert f"-kernel {tmp_path}/vmlinux" in call


@pytest.mark.parametrize(
    ("script", "seconds", "says"),
    [
        (
            "echo 'KVM internal error. Suberror: 1'; exit 1",
            20.0,
            "QEMU ended; last printed: KVM internal error",
        ),
        ("echo 'Probing EDD'; exec sleep 1000", 0.3, "no kernel came up in 0 s; last printed: Probing EDD"),
        ("exec sleep 1000", 0.3, "last printed: nothing at all"),
    ],
)
def test_boot_that_does_not_come_up(tmp_path: Path, script: str, seconds: float, says: str) -> None:
    with RunFolder.create(tmp_path) as folder:
        went = probe_kvm.boot(guest(tmp_path, script), folder, Deadline(seconds))
    assert not went.up
    assert says in went.seen


def test_the_boots_answer_is_kept_for_this_boot_of_the_machine(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path / "cache"), guest(tmp_path, UP)

    def look() -> Finding:
        return Kvm(made, cache, root=host(tmp_path, boot_id), open=opens, loop=fast, machine="x86_64").look()

    boot_id = "first"
    first = look()
    assert first.verdict is Verdict.OK
    assert look() == first
    assert (tmp_path / "qemu.calls").read_text().count("-accel") == 1
    boot_id = "second"
    assert look().verdict is Verdict.OK
    assert (tmp_path / "qemu.calls").read_text().count("-accel") == 2


def test_a_spoilt_cache_is_asked_anew(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path / "cache"), guest(tmp_path, UP)
    (cache.folder("probes") / "kvm.json").write_text("{")
    assert (
        Kvm(made, cache, root=tmp_path, open=opens, loop=fast, machine="x86_64").look().verdict is Verdict.OK
    )


def test_kvm_without_images_is_unknown() -> None:
    found = Kvm(open=opens, loop=fast, machine="x86_64").look()
    assert found.verdict is Verdict.UNKNOWN
    assert "images not built" in found.seen
    assert found.mend == doctor.BUILD_IMAGES


def test_kvm_that_emulates_is_broken_before_any_boot(tmp_path: Path) -> None:
    (tmp_path / "sys/module/kvm_pvm").mkdir(parents=True)
    made = guest(tmp_path, UP)
    found = Kvm(made, root=tmp_path, open=opens, loop=lambda device: 540.0, machine="x86_64").look()
    assert found.verdict is Verdict.BROKEN
    assert "emulates its guests (kvm_pvm); 540 ns" in found.seen
    assert not (tmp_path / "qemu.calls").exists()


def test_kvm_whose_loop_fails_is_broken() -> None:
    def fails(device: Path) -> float:
        raise subprocess.CalledProcessError(
            1, "x", stderr="Traceback\nOSError: [Errno 22] Invalid argument\n"
        )

    found = Kvm(open=opens, loop=fails, machine="x86_64").look()
    assert found.verdict is Verdict.BROKEN
    assert "Invalid argument" in found.seen


def test_the_real_loop_on_what_is_no_kvm() -> None:
    found = Kvm(device=Path("/dev/null"), machine="x86_64").look()
    assert found.verdict is Verdict.BROKEN
    assert "Inappropriate ioctl" in found.seen


@pytest.mark.parametrize(
    ("number", "flags", "files", "verdict", "mend", "fix"),
    [
        (
            errno.ENOENT,
            "fpu svm",
            {DEP: "kernel/kvm-amd.ko: kvm.ko"},
            Verdict.MISSING,
            "modprobe kvm_amd",
            True,
        ),
        (errno.ENODEV, "fpu vmx", {DEP: "kernel/kvm-intel.ko:"}, Verdict.MISSING, "modprobe kvm_intel", True),
        (errno.ENOENT, "fpu svm", {}, Verdict.MISSING, "modprobe kvm_amd", False),
        (errno.ENOENT, "svm", {"proc/modules": "kvm_amd 1 0 -"}, Verdict.MISSING, "c 10 232", False),
        (errno.ENOENT, "svm", {CONFIG: "# CONFIG_KVM_AMD is not set"}, Verdict.MISSING, "", False),
        (errno.ENODEV, "fpu", {}, Verdict.MISSING, "", False),
        (errno.EPERM, "svm", {}, Verdict.DENIED, "docker run --device", False),
    ],
)
def test_kvm_that_does_not_open(
    tmp_path: Path, number: int, flags: str, files: dict[str, str], verdict: Verdict, mend: str, fix: bool
) -> None:
    for name, text in {
        "proc/cpuinfo": f"flags\t\t: {flags}",
        "proc/sys/kernel/osrelease": "6.1",
        **files,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "kvm").touch()

    def fails(device: Path) -> None:
        raise OSError(number, os.strerror(number))

    found = Kvm(device=tmp_path / "kvm", root=tmp_path, open=fails).look()
    assert found.verdict is verdict
    assert mend in found.mend
    assert bool(mend) == bool(found.mend)
    assert bool(found.fix) == fix


def test_qemu_with_all_devices(tmp_path: Path) -> None:
    devices = "\n".join(f"echo 'name \"{name}\", bus PCI'" for name in DEVICES)
    found = QemuDevices(program(tmp_path / "q", f'echo "QEMU emulator version 9 $FROM"\n{devices}')).look()
    assert found.verdict is Verdict.OK
    assert "QEMU emulator version 9 here" in found.seen


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo QEMU emulator version 9; echo 'name \"isa-serial\"'", "lacks vhost-vsock-pci, virtserialport"),
        ("echo libpixman.so.0 not found >&2; exit 127", "libpixman.so.0 not found"),
    ],
)
def test_qemu_that_will_not_do(tmp_path: Path, script: str, says: str) -> None:
    found = QemuDevices(program(tmp_path / "q", script), mend="build").look()
    assert (found.verdict, found.mend) == (Verdict.BROKEN, "build")
    assert says in found.seen


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert QemuDevices(mend="build").look().verdict is Verdict.MISSING
