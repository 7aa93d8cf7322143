"""Python that has imported already: a server in a saved lab that forks a worker's interpreter on request.

Importing pytest and us takes an emulated CPU 8 s; a fork takes none. One server has imported the packages of
the lab's image alone, another our code as well. That one's socket bears the digest of the code, so that it is
never taken for other code. `fork` is what execnet starts instead of ``python3``: it hands its streams and
its ``-c CODE`` to the better server there is (SCM_RIGHTS, unix(7)); without one it becomes ``python3``.

Standard library only; the client half imports as little as it can.
"""

# The client half's imports are its cost; nothing of ours is imported here.
# ruff: noqa: PTH103, PTH109, PTH118

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing for it would cost as much as all else here
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

SOCKETS = "/run/vsock-harness/warm"
"""Folder of the servers' sockets in a lab."""

PACKAGES = "packages"
"""The socket of the server that has imported no code of ours."""

_SOL_SOCKET, _SCM_RIGHTS = 1, 1  # <asm-generic/socket.h>, <linux/socket.h>
_LONGEST = 65536


def fork(folder: str, digest: str, *program: str) -> None:
    """Be the `program`, ``python3 … -c CODE``, by running CODE in a fork of a server in `folder`, if there
    is one.

    Returns when the fork has ended; a signal to this process is none to it, but the end of its input is.
    """
    import _socket

    for name in (digest, PACKAGES):
        server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            server.connect(os.path.join(folder, name))
        except OSError:
            server.close()
            continue
        fds = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
        message = "\0".join([os.getcwd(), program[-1]]).encode()
        server.sendmsg([len(message).to_bytes(4, "big") + message], [(_SOL_SOCKET, _SCM_RIGHTS, fds)])
        while server.recv(1):
            pass
        return
    os.execvp(program[0], program)


def serve(folder: str, name: str, *modules: str) -> None:
    """Import `modules`, then listen as `name` in `folder` in the background; returns when it listens.

    In each fork, the sent code is run as the main program; then the process ends. A server is a process of
    its own, started from this file: whatever else it had imported would be taken for today's.
    """
    import importlib
    import socket

    for module in modules:
        for part in (importlib.import_module(module), sys.modules[module.split(".")[0]]):
            # pytest would complain of plugins whose assertions it can't rewrite any more
            part.__doc__ = f"{part.__doc__ or ''}\nPYTEST_DONT_REWRITE"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(folder, name))
    listener.listen(64)
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    _fork_on_request(listener)


def _fork_on_request(listener: socket.socket) -> None:
    import gc
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    gc.collect()
    gc.freeze()  # what is here now stays: collecting it would only copy pages
    while True:
        client, _ = listener.accept()
        try:
            message, fds = _request(client)
            try:
                forked = os.fork() == 0
            except OSError:  # there are no more processes: the client sees the end
                forked = False
            if forked:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(message, fds)
            for fd in fds:
                os.close(fd)
        except OSError:
            continue  # the client went away
        finally:
            client.close()


def _request(client: socket.socket) -> tuple[str, list[int]]:
    """What to run, and the streams to run it with.

    :raise OSError: the client went away, or is none.
    """
    import socket

    data, fds, _, _ = socket.recv_fds(client, _LONGEST, 3)
    try:
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            more = client.recv(_LONGEST)
            if not more:
                raise ConnectionError
            data += more
        return data[4:].decode(), list(fds)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise


def _run(message: str, fds: list[int]) -> NoReturn:
    """All that a fork does. Whatever comes of a file or a pipe, it does not go on as a server."""
    import contextlib

    try:
        _become(message, fds)
    except BrokenPipeError:
        pass  # whoever asked has left
    except OSError:
        sys.excepthook(*sys.exc_info())
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    os._exit(0)


def _become(message: str, fds: list[int]) -> None:
    """In a fork: the program that was asked for. The connection stays open until this process ends."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    folder, code = message.split("\0", 1)
    os.chdir(folder)
    sys.path.insert(0, "")
    sys.argv = ["-c"]
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    try:
        exec(compile(code, "<string>", "exec"), main.__dict__)
    except SystemExit:
        pass
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


if __name__ == "__main__":
    {"serve": serve, "fork": fork}[sys.argv[1]](*sys.argv[2:])
