"""The probe of KVM, by doing: a loop of two instructions, then a whole kernel.

/dev/kvm may open, create VMs and still never boot a kernel: where the CPU's virtualisation isn't handed down,
KVM can be one that emulates most of what a stock guest does (kvm_pvm). The loop finds that within 0.5 s.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.agent.errnos import errno_name
from harness.host import kernel, kvm_loop, mends
from harness.host.finding import Finding, Verdict
from harness.host.mends import Mend
from harness.host.paths import Cache
from harness.host.process import spawn, stop
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.model.deadline import Deadline
from harness.model.errors import HarnessError
from harness.model.spec import Qemu

DEVICE = Path("/dev/kvm")

SLOWEST_TURN = 100.0
"""Nanoseconds a turn of the loop may take; see `kvm_loop` for what was measured on both sides of it."""

BOOT_WITHIN = 10.0
"""Seconds a kernel may take to its end without a root disk, times `slowness`; 0.5 on a desktop."""

KERNEL_UP = b"Kernel panic - not syncing: VFS: Unable to mount root"
"""The last thing a kernel without root disk and initramfs says: all of its own initialisation has passed."""


class Guest(NamedTuple):
    """What to boot: a QEMU, and a vmlinux or bzImage with a serial console built in."""

    qemu: Qemu
    kernel: Path


class Boot(NamedTuple):
    """How a boot went: whether the kernel came up, and what was seen."""

    up: bool
    seen: str


def boot(guest: Guest, folder: RunFolder, deadline: Deadline, accel: str = "kvm", cpu: str = "host") -> Boot:
    """Boot the kernel to its natural end, a panic for want of a root disk; leaves no process.

    :param accel: ``kvm``, or ``tcg`` to try the guest itself.
    """
    argv = [*guest.qemu.argv, "-M", "q35", "-accel", accel, "-cpu", cpu, "-m", "256"]
    argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    argv += ["-kernel", str(guest.kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    begun = time.monotonic()
    process = spawn(
        argv,
        folder=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **guest.qemu.env},
    )
    try:
        console, ended = _read_until(process, KERNEL_UP, deadline)
    finally:
        stop(process, terminate_after=0, kill_after=2)
        if process.stdout:
            process.stdout.close()
    took = time.monotonic() - begun
    if KERNEL_UP in console:
        return Boot(True, f"a kernel came up under it in {took:.1f} s")
    lines = console.decode(errors="replace").splitlines()
    last = next((line.strip()[:120] for line in reversed(lines) if line.strip()), "nothing at all")
    end = "QEMU ended" if ended else f"no kernel came up in {took:.0f} s"
    return Boot(False, f"{end}; last printed: {last}")


def _read_until(process: subprocess.Popen[bytes], wanted: bytes, deadline: Deadline) -> tuple[bytes, bool]:
    """What the process printed, and whether it ended without printing `wanted`."""
    assert process.stdout is not None
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([process.stdout], [], [], deadline.remaining())
        if not ready:
            return seen, False
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            return seen, True
        seen += data
    return seen, False


def _loop(device: Path) -> float:
    """Nanoseconds a turn of the loop takes; infinite if it doesn't end.

    :raise subprocess.CalledProcessError: with the reason in its stderr.
    """
    seconds = int(10 * slowness())
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", kvm_loop.__file__, str(device), str(seconds)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return float("inf")
    return float(done.stdout)


def _open(device: Path) -> None:
    os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))


class _Answer(msgspec.Struct, frozen=True):
    key: str
    up: bool
    seen: str


@dataclass(frozen=True)
class Kvm:
    """/dev/kvm opens *and* runs a guest.

    :ivar guest: what to boot; without it a KVM that passes the loop is ``unknown``.
    :ivar cache: keeps the boot's answer until this machine boots anew, or the kernel or QEMU change.
    """

    guest: Guest | None = None
    cache: Cache | None = None
    device: Path = DEVICE
    root: Path = Path("/")
    open: Callable[[Path], None] = _open
    loop: Callable[[Path], float] = _loop
    machine: str = platform.machine()
    ability: str = "kvm"

    def look(self) -> Finding:
        """See `Probe`."""
        try:
            self.open(self.device)
        except OSError as error:
            return self._cannot_open(error)
        if self.machine != "x86_64":
            return self._boot(f"opens; no short test for {self.machine}")
        try:
            turn = self.loop(self.device)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            return self._finding(Verdict.BROKEN, f"opens, but runs no guest: {said[-1]}")
        if turn > SLOWEST_TURN:
            which = " (kvm_pvm)" if (self.root / "sys/module/kvm_pvm").exists() else ""
            seen = f"opens, but emulates its guests{which}; {turn:.0f} ns for two instructions"
            return self._finding(Verdict.BROKEN, f"{seen}, {SLOWEST_TURN:.0f} is the most")
        return self._boot(f"opens and runs code ({turn:.1f} ns for two instructions)")

    def _cannot_open(self, error: OSError) -> Finding:
        code = errno_name(error)
        seen = f"cannot open {self.device}: {error.strerror} ({code})"
        if error.errno in {errno.EACCES, errno.EPERM}:
            return self._finding(Verdict.DENIED, seen, mends.let_in(self.device, error.errno or 0, self.root))
        flags = set(kernel.read(self.root / "proc/cpuinfo").split())
        usable = [module for flag, module in (("vmx", "kvm_intel"), ("svm", "kvm_amd")) if flag in flags]
        if not usable:
            return self._finding(Verdict.MISSING, f"{seen}; this CPU shows neither vmx nor svm")
        state = kernel.module_state(usable[0], self.root)
        seen = f"{seen}; {usable[0]} is {state}"
        if state == "not built":
            return self._finding(Verdict.MISSING, seen)
        if state in {"loaded", "built in"}:
            return self._finding(Verdict.MISSING, seen, mends.make_node(self.device, self.root))
        then = f"docker run --device {self.device} ..."
        return self._finding(Verdict.MISSING, seen, mends.load(usable[0], self.root, then=then))

    def _boot(self, so_far: str) -> Finding:
        if self.guest is None:
            seen = f"{so_far}; images not built, so no kernel was booted"
            return self._finding(Verdict.UNKNOWN, seen, Mend("vsock-harness images build"))
        answer = self._kept() or self._try()
        return self._finding(Verdict.OK if answer.up else Verdict.BROKEN, f"{so_far}; {answer.seen}")

    def _try(self) -> _Answer:
        assert self.guest is not None
        try:
            with RunFolder.create() as folder:
                went = boot(self.guest, folder, Deadline(BOOT_WITHIN * slowness()))
        except HarnessError as error:
            return _Answer("", False, f"no boot could be tried: {error.summary}")
        answer = _Answer(self._key(), went.up, went.seen)
        if self.cache is not None:
            _keep(answer, self.cache.folder("probes") / "kvm.json")
        return answer

    def _kept(self) -> _Answer | None:
        """The answer of before, if it is about this boot of this machine, this kernel and this QEMU."""
        if self.cache is None:
            return None
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            path = self.cache.root / "probes" / "kvm.json"
            answer = msgspec.json.decode(path.read_bytes(), type=_Answer)
            return answer if answer.key == self._key() else None
        return None

    def _key(self) -> str:
        assert self.guest is not None
        status = self.guest.kernel.stat()
        parts = (
            kernel.read(self.root / "proc/sys/kernel/random/boot_id"),
            kernel.release(self.root),
            self.guest.qemu.argv,
            str(self.guest.kernel),
            status.st_size,
            status.st_mtime_ns,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _finding(self, verdict: Verdict, seen: str, mend: Mend = mends.NOTHING) -> Finding:
        return Finding(self.ability, verdict, seen, "local", mend.text, mend.steps)


def _keep(answer: _Answer, path: Path) -> None:
    """Write it whole or not at all; an answer that can't be kept is asked for again."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=path.parent)
        with open(handle, "wb") as file:
            file.write(msgspec.json.encode(answer))
        Path(name).replace(path)
