"""Start the agent: on vsock and all serial ports of a guest, or for development on a Unix socket.

In a guest, with this folder at DIR/agent::

    python3 -I -S -B -c "import sys; sys.path.insert(0, 'DIR'); from agent.__main__ import main; main()"

It writes one line to stdout for each thing it serves, then ``vsock-harness agent: ready``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

from . import ports
from .channel import Line, open_serial
from .server import Agent

VSOCK_PORT = 1024
BACKLOG = 1024  # a full vsock backlog refuses as if nobody listened


def main() -> NoReturn:
    """Serve until SIGTERM or SIGINT, then kill all containers and leave."""
    development = sys.argv[1:2] == ["--unix"]
    agent = Agent(in_guest=not development, beside=sys.argv[2] if development else "")
    end_on_signal(agent)
    try:
        if development:
            _serve_unix(agent, sys.argv[2])
        if sys.argv[1:2] == ["--yamux-unix"]:
            _serve_yamux(agent, sys.argv[2])
        _serve_guest(agent)
    finally:
        agent.end_containers()


def end_on_signal(agent: Agent) -> None:
    """On SIGTERM or SIGINT kill all containers and end the process, whatever the main thread waits for.

    Not in a Python handler: that runs between two bytecodes of the main thread, and never if the signal comes
    just before its system call. Not by sigwait() either, as containers would inherit the blocked signals.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)

    def wait() -> None:
        os.read(read_fd, 1)
        agent.end_containers()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    signal.set_wakeup_fd(write_fd)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)


def _serve_unix(agent: Agent, path: str) -> NoReturn:
    agent.listen(_listen_unix(path, BACKLOG), "unix")
    raise AssertionError("listen() returned")


def _serve_yamux(agent: Agent, path: str) -> NoReturn:
    """Be at the other end of a multiplexing proxy, one after another, as QEMU's socket of a port is."""
    listener = _listen_unix(path, 1)
    while True:
        connection, _ = listener.accept()
        fd = connection.detach()
        agent.serve_line(Line("unix", fd, fd, lasting=False))


def _listen_unix(path: str, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)
    _say("ready")
    return listener


def _serve_guest(agent: Agent) -> NoReturn:
    """Serve what is there, and what comes later as the kernel announces it."""
    _raise_limit()
    announced = ports.announcements()
    serving: dict[str, threading.Thread] = {}
    vsock = _listen_vsock(agent)
    serve_new(agent, serving)
    _say("ready")
    while True:
        with contextlib.suppress(OSError):  # ENOBUFS: some were lost, so look
            announced.recv(65536)
        vsock = vsock or _listen_vsock(agent)
        serve_new(agent, serving)


def _listen_vsock(agent: Agent) -> threading.Thread | None:
    try:
        listener = socket.socket(socket.AF_VSOCK)
        listener.bind((socket.VMADDR_CID_ANY, VSOCK_PORT))
        listener.listen(BACKLOG)
    except OSError as error:
        _say(f"no vsock: {error}")
        return None
    thread = threading.Thread(target=agent.listen, args=(listener, "vsock"), daemon=True)
    thread.start()
    _say(f"vsock port {VSOCK_PORT}")
    return thread


def serve_new(agent: Agent, serving: dict[str, threading.Thread]) -> None:
    """Serve the serial devices that are there and not among `serving`, which maps device to thread."""
    for device in ports.find():
        if device in serving and serving[device].is_alive():
            continue
        try:
            thread = _start(agent, device)
        except OSError as error:
            _say(f"{device}: {error}")
            continue
        if thread:
            serving[device] = thread
            _say(device)


def _start(agent: Agent, device: str) -> threading.Thread | None:
    if not ports.is_multiplexed(device):
        return agent.start(open_serial(device))
    fd = os.open(device, os.O_RDWR | os.O_NOCTTY)
    return agent.start_line(Line(device, fd, fd, lasting=True))


def _raise_limit() -> None:
    """One descriptor a connection, five a container: take what the kernel allows."""
    import resource  # not needed on a Unix socket

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    os.write(1, f"vsock-harness agent: {text}\n".encode())


if __name__ == "__main__":
    main()
