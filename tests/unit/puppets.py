"""Clients of an agent, or of what answers in its place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient
from harness.model.deadline import Deadline
from tests.unit.hangs import HANGS


def connect(path: Path) -> AgentClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return AgentClient(sock)


def soon() -> Deadline:
    return Deadline(HANGS)


@contextlib.contextmanager
def puppet(answer: Callable[[Frame], bytes | None]) -> Iterator[AgentClient]:
    """A client of an agent that sends, to each frame, the bytes that `answer` says, and closes on None."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        decoder = Decoder()
        with theirs, contextlib.suppress(OSError):
            while data := theirs.recv(65536):
                for frame in decoder.feed(data):
                    assert isinstance(frame, Frame)
                    reply = answer(frame)
                    if reply is None:
                        return
                    theirs.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    with AgentClient(ours) as client:
        yield client
    thread.join()


def reply(frame: Frame, kind: Kind = Kind.DATA, payload: bytes | None = None) -> bytes:
    return encode(Frame(kind, frame.request, frame.payload if payload is None else payload))
