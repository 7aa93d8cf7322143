"""How a VM came to its end, and whose fault that is."""

from __future__ import annotations

import signal
from enum import StrEnum

import msgspec

from harness.model.errors import GuestCrashed, HarnessError, InfrastructureError, SystemFailure
from harness.vm.console import QEMU_TROUBLE


class Cause(StrEnum):
    """What ended the VM. `GUEST_PANICKED` and `INTERNAL_ERROR` leave QEMU running with the guest stopped."""

    GUEST_PANICKED = "guest-panicked"  # the guest's panic driver told QEMU
    GUEST_RESET = "guest-reset"  # a reboot, a panic without driver, or a triple fault
    GUEST_SHUTDOWN = "guest-shutdown"  # the guest powered off
    INTERNAL_ERROR = "internal-error"  # the accelerator gave up on the guest
    HOST = "host"  # QEMU was told to: by quit, by a signal that it handles
    EXITED = "exited"  # QEMU ended by itself without a word on the monitor
    SIGNALLED = "signalled"  # QEMU was killed by a signal


class QemuDied(InfrastructureError):
    """QEMU, not the guest, came to an end that nobody asked for."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a VM: its cause, a sentence, and QEMU's return code if it has exited."""

    cause: Cause
    text: str
    returncode: int | None = None

    def error(self, name: str, *, stderr: str, console: str) -> HarnessError:
        """The error for somebody who did not expect this end; `stderr` and `console` are evidence."""
        kind: type[HarnessError]
        match self.cause:
            case Cause.GUEST_PANICKED:
                kind = GuestCrashed
            case Cause.GUEST_RESET | Cause.GUEST_SHUTDOWN:
                kind = SystemFailure
            case _:
                kind = QemuDied
        evidence = [("QEMU said", stderr), ("the console's end", console)]
        detail = "\n".join(f"{title}:\n{text}" for title, text in evidence if text)
        return kind(
            f"machine {name}: {self.text}",
            detail=detail,
            hint="qmp.jsonl, console.log and qemu.stderr have the whole story",
        )


_SHUTDOWN_REASONS = {
    "guest-reset": (Cause.GUEST_RESET, "the guest reset itself, panicked or triple-faulted"),
    "guest-shutdown": (Cause.GUEST_SHUTDOWN, "the guest powered off"),
    "guest-panic": (Cause.GUEST_PANICKED, "the guest's kernel panicked"),
    "subsystem-reset": (Cause.GUEST_RESET, "a subsystem of QEMU reset the guest"),
}
"""ShutdownCause of QEMU's qapi/run-state.json, as far as it is the guest's doing."""


def of_exit(returncode: int, shutdown_reason: str | None, stderr: str) -> End:
    """The end of a QEMU that has exited. `shutdown_reason` is from its last SHUTDOWN event, if any came."""
    if shutdown_reason in _SHUTDOWN_REASONS:
        cause, text = _SHUTDOWN_REASONS[shutdown_reason]
    elif returncode < 0:
        cause, text = Cause.SIGNALLED, f"QEMU was killed by {signal.Signals(-returncode).name}"
    elif QEMU_TROUBLE.search(stderr):
        cause, text = Cause.INTERNAL_ERROR, "KVM gave up on the guest, and QEMU exited"
    elif shutdown_reason is not None:
        cause, text = Cause.HOST, f"QEMU was told to end ({shutdown_reason})"
    else:
        cause, text = Cause.EXITED, f"QEMU exited with code {returncode} without saying why on the monitor"
    return End(cause=cause, text=text, returncode=returncode)


def of_status(status: str) -> End | None:
    """The end of a QEMU that runs with its guest stopped for good; None if `status` is no such stop."""
    if status == "guest-panicked":
        return End(cause=Cause.GUEST_PANICKED, text="the guest's kernel panicked")
    if status in {"internal-error", "io-error"}:
        return End(cause=Cause.INTERNAL_ERROR, text=f"the guest cannot go on: QEMU's status is {status}")
    return None
