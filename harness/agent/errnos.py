"""Errnos by the names that Linux's manuals use.

Where a number has two names, `errno.errorcode` has whichever the module defined last: ENOTSUP for
EOPNOTSUPP, EDEADLOCK for EDEADLK (Modules/errnomodule.c); the kernel's own sources and man 3 errno call these
by the other name.
"""

import errno

_LESS_USUAL = ("EWOULDBLOCK", "EDEADLOCK", "ENOTSUP")
"""Second names of EAGAIN, EDEADLK and EOPNOTSUPP (include/uapi/asm-generic/errno.h; ENOTSUP is glibc's)."""

NAMES = {
    number: name for name, number in vars(errno).items() if name.startswith("E") and name not in _LESS_USUAL
}
"""The name of each errno of this system by its number."""


def errno_name(error: OSError) -> str:
    """The name of its errno; ``errno 999`` of one that has none here, its text if it comes without one."""
    if error.errno is None:
        return str(error)
    return NAMES.get(error.errno, f"errno {error.errno}")
