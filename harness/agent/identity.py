"""What tells a clone from the machine it was saved from: the boot's id and the clock.

The random numbers are the kernel's own affair: vmgenid tells it of the new generation
(drivers/virt/vmgenid.c).
"""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH101, PTH105

import os
import re
import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FILE = "/run/vsock-harness-boot-id"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def adopt(boot_id: str, now: int) -> None:
    """From now on this machine was booted as `boot_id`, and it is `now` (nanoseconds since 1970).

    The kernel keeps the id it drew first (drivers/char/random.c), so a file is mounted over it, as systemd
    does for its containers (machine-id(5)); every process sees it.

    :raise ValueError: if `boot_id` is no UUID in lower case.
    :raise OSError: if the guest does not let it: not root, no mount(8), no /run.
    """
    if not _UUID.fullmatch(boot_id):
        raise ValueError(f"boot_id: {boot_id!r} is no UUID")
    time.clock_settime_ns(time.CLOCK_REALTIME, now)
    with open(_FILE + ".new", "w", encoding="ascii") as file:
        file.write(boot_id + "\n")
    os.chmod(_FILE + ".new", 0o444)
    os.replace(_FILE + ".new", _FILE)
    argv = ["mount", "-o", "bind", _FILE, _BOOT_ID]
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(5, f"mount ended with {code}", _BOOT_ID)
