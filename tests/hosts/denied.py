"""Runs a command under a seccomp filter that denies AF_VSOCK, as Docker's default profile does.

``python3 denied.py COMMAND [ARGUMENT ...]``; stands alone, for Linux on x86-64 (seccomp(2), bpf(4)).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

AF_VSOCK, EPERM = 40, 1
SOCKET, X86_64 = 41, 0xC000003E
"""Of asm/unistd_64.h, linux/audit.h."""

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16
"""Offsets in struct seccomp_data."""

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2

PROGRAM = [
    (_LOAD, 0, 0, _ARCHITECTURE),
    (_EQUAL, 0, 5, X86_64),
    (_LOAD, 0, 0, _NUMBER),
    (_EQUAL, 0, 3, SOCKET),
    (_LOAD, 0, 0, _FIRST),
    (_EQUAL, 0, 1, AF_VSOCK),
    (_RETURN, 0, 0, _ERRNO | EPERM),
    (_RETURN, 0, 0, _ALLOW),
]
"""Operation, how many to skip if true, if false, operand: struct sock_filter."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny() -> None:
    """From now on this process and its children get EPERM for AF_VSOCK.

    :raise OSError: the kernel has no seccomp.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("=HBBI", *row) for row in PROGRAM)
    program = _Program(len(PROGRAM), code)
    for call in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    deny()
    os.execvp(sys.argv[1], sys.argv[1:])
