"""What tells a clone from the machine it was saved from: the boot's id and the clock.

The random numbers are the kernel's own affair: vmgenid tells it of the new generation
(drivers/virt/vmgenid.c).
"""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH101, PTH105

import ctypes
import os
import re
import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FILE = "/run/vsock-harness-boot-id"
_MS_BIND = 4096  # <sys/mount.h>
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before a template is saved: a clone's start is waited for
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def adopt(boot_id: str, now: int) -> None:
    """From now on this machine was booted as `boot_id`, and it is `now` (nanoseconds since 1970).

    The kernel keeps the id it drew first (drivers/char/random.c), so a file is mounted over it, as systemd
    does for its containers (machine-id(5)); every process sees it.

    :raise ValueError: if `boot_id` is no UUID in lower case.
    :raise OSError: if the guest does not let it: not root, no /run.
    """
    if not _UUID.fullmatch(boot_id):
        raise ValueError(f"boot_id: {boot_id!r} is no UUID")
    time.clock_settime_ns(time.CLOCK_REALTIME, now)
    with open(_FILE + ".new", "w", encoding="ascii") as file:
        file.write(boot_id + "\n")
    os.chmod(_FILE + ".new", 0o444)
    os.replace(_FILE + ".new", _FILE)
    if _LIBC.mount(_FILE.encode(), _BOOT_ID.encode(), None, _MS_BIND, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), _BOOT_ID)
