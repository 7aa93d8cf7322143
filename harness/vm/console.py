"""What the guest's kernel says: following the console file, and finding a crash in it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from harness.model.deadline import Deadline, until_async
from harness.model.errors import DeadlinePassed, GuestCrashed

QUOTED_LINES = 30
"""How much of a crash is quoted, first line included."""

_STAMP = r"^(?:\[ *\d+\.\d+\](?:\[[^\]]*\])? ?)?"

# Only what a kernel prints, at the beginning of a line: a program's output may contain these words too.
# Sources: kernel/panic.c, arch/x86/kernel/{traps,dumpstack}.c, kernel/rcu/tree_stall.h,
# kernel/hung_task.c, kernel/watchdog.c, mm/oom_kill.c, kernel/locking/lockdep.c, mm/kasan/report.c.
_CRASHES = {
    "kernel panic": r"Kernel panic - not syncing",
    "kernel BUG": r"kernel BUG at |(?:watchdog: )?BUG: ",
    "oops": r"Oops: |Oops\[|.*: [0-9a-f]{4} \[#\d+\]|Unable to handle kernel |PANIC: double fault"
    r"|general protection fault|invalid opcode: |double fault: ",
    "warning": r"WARNING: (?:CPU: |.*\+0x|.* at |possible |suspicious |inconsistent |bad unlock)",
    "RCU stall": r"(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected",
    "hung task": r"INFO: task .* blocked for more than",
    "lockup": r"(?:watchdog: |NMI watchdog: )?(?:Watchdog detected hard LOCKUP|BUG: soft lockup)",
    "KASAN": r"(?:UBSAN|KCSAN|KMSAN|KASAN): ",
    "out of memory": r"(?:Out of memory|Memory cgroup out of memory): Killed process",
}
_CRASH = re.compile(_STAMP + "(?:" + "|".join(_CRASHES.values()) + ")")
_CUT_HERE = re.compile(_STAMP + r"-+\[ cut here \]")
_END_TRACE = re.compile(_STAMP + r"---\[ end (?:trace|Kernel panic)")

QEMU_TROUBLE = re.compile(r"KVM internal error|kvm run failed|KVM: entry failed", re.IGNORECASE)
"""What QEMU writes to its standard error when KVM gives up on a guest (accel/kvm/kvm-all.c)."""


class Console:
    """Follows the file that QEMU writes the guest's first serial port to.

    Each look reads only what was added since the last. The file need not exist yet. Bytes that are not
    UTF-8 are shown as U+FFFD.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lines: list[str] = [""]
        self._searched = 0
        self._first_crash: int | None = None

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return
        self._offset += len(new)
        first, *rest = self._decoder.decode(new).replace("\r", "").split("\n")
        self._lines[-1] += first
        self._lines += rest

    def tail(self, lines: int = QUOTED_LINES) -> str:
        """The last lines so far."""
        self._read()
        return "\n".join(self._lines[-lines:]).strip("\n")

    def crash(self) -> str | None:
        """The first panic, oops, warning, stall, lockup or out-of-memory kill so far, quoted; else None.

        The quote begins where the kernel's report does and has at most `QUOTED_LINES` lines; a report
        that is still being printed is quoted as far as it is there.
        """
        self._read()
        # The last line may still grow: it is looked at each time, those before it once.
        for number in range(self._searched, len(self._lines)):
            if self._first_crash is None and _CRASH.match(self._lines[number]):
                self._first_crash = number
        self._searched = len(self._lines) - 1
        return None if self._first_crash is None else self._quote(self._first_crash)

    def _quote(self, number: int) -> str:
        before = self._lines[number - 1] if number else ""
        start = number - 1 if _CUT_HERE.match(before) else number
        quoted: list[str] = []
        for line in self._lines[start : start + QUOTED_LINES]:
            quoted.append(line)
            if _END_TRACE.match(line):
                break
        return "\n".join(quoted).rstrip("\n")

    def check(self) -> None:
        """:raise GuestCrashed: the kernel reported a crash; the error quotes it."""
        quote = self.crash()
        if quote is not None:
            first = next(line for line in quote.splitlines() if _CRASH.match(line))
            raise GuestCrashed(
                f"guest kernel: {first}", detail=quote, hint=f"whole console: {self.path.name}"
            )

    async def wait_for(
        self, text: str, deadline: Deadline, check: Callable[[], object] = lambda: None
    ) -> str:
        """Wait until a line contains `text`, from the beginning of the console on, and return that line.

        :param check: raises when nothing more can come, as `Machine.check` does; what it raises is raised.
        :raise GuestCrashed: the kernel reported a crash first.
        :raise DeadlinePassed: not in time; the error has the console's end.
        """
        looked_at = 0

        def found() -> str | None:
            nonlocal looked_at
            self._read()
            line = next((line for line in self._lines[looked_at:] if text in line), None)
            looked_at = len(self._lines) - 1
            if line is None:
                self.check()
                check()
            return line

        try:
            return await until_async(found, deadline, f"{text!r} on the console")
        except DeadlinePassed as error:
            raise DeadlinePassed(error.summary, detail=self.tail(), hint=error.hint) from None
