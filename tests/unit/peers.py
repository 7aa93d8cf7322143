"""What speaks to agents in raw bytes and frames."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.agent.decoder import Decoder
from harness.agent.wire import BadFrame, Frame, Kind, encode
from harness.model.deadline import Deadline, until
from tests.unit.hangs import HANGS


class Peer:
    """A connection to an agent, in raw bytes and frames."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self._decoder = Decoder()
        self._frames: list[Frame] = []

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, kind: Kind, request: int, payload: bytes | dict[str, Any] = b"") -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.sock.sendall(encode(Frame(kind, request, data)))

    def read(self) -> Frame:
        """The next frame.

        :raise EOFError: at the connection's end.
        """
        while not self._frames:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            for frame in self._decoder.feed(data):
                assert isinstance(frame, Frame), frame
                self._frames.append(frame)
        return self._frames.pop(0)

    def read_until(self, wanted: Frame) -> list[Frame | BadFrame]:
        """Read up to `wanted`, and return what came before, whatever it was."""
        found: list[Frame | BadFrame] = [*self._frames]
        while wanted not in found:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            found += self._decoder.feed(data)
        self._frames = [frame for frame in found[found.index(wanted) + 1 :] if isinstance(frame, Frame)]
        return found[: found.index(wanted)]

    def ask(self, kind: Kind, request: int, payload: bytes | dict[str, Any] = b"") -> Any:
        """Send, read one frame, and return its JSON; fails if it is not the answer to this."""
        self.send(kind, request, payload)
        frame = self.read()
        assert frame.request == request
        return json.loads(frame.payload)

    def run(self, request: int, *argv: str) -> int:
        pid = self.ask(Kind.RUN, request, {"argv": list(argv)})["pid"]
        assert isinstance(pid, int)
        return pid

    def containers(self) -> int:
        return int(self.ask(Kind.FACTS, 999)["containers"])


def soon(fact: Callable[[], object], what: str) -> None:
    until(lambda: fact() or None, Deadline(HANGS), what, every=0.01)
