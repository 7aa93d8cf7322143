"""The step `shutdown` of `harness.run.raw`: ends that misbehave, and a device that knows no halves."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.errors import WrongData
from harness.model.halves import Answer, Deaf
from harness.model.link import Endpoint
from harness.model.plan import Initiated
from harness.model.steps import Shutdown, SocketType
from harness.run.raw import Open, Raw, Wrong
from tests.unit.agents import unix_agent
from tests.unit.running import endpoint
from tests.unit.test_run_raw import BOTH, SEED, SHUTDOWN, end_of, misbehaving, open_, raw

NO_HALVES = Shutdown(bytes=100_000, answer=Answer.NONE, deaf=Deaf.WRITTEN)
EITHER = pytest.mark.parametrize("step", [SHUTDOWN, NO_HALVES])


@pytest.fixture(scope="module")
def agent() -> Iterator[Path]:
    with unix_agent() as path:
        yield path


def in_turn(path: Path, *ways: Open) -> Raw:
    """Steps whose raw connections come in these ways: to be half-closed, to the deaf agent, to write to."""
    each = iter(ways)
    return Raw(
        endpoint(path),
        Initiated.HOST,
        10.0,
        open_=lambda where, kind, patience: next(each)(where, kind, patience),
    )


def without_halves(where: Endpoint, kind: SocketType, patience: float) -> socket.socket:
    """By way of a device that takes one end's end for the end of all, and tells nobody who is deaf."""
    guest = open_(where, kind, patience)
    ours, theirs = socket.socketpair()

    def carry() -> None:
        with guest, theirs:
            back = threading.Thread(target=_carry, args=(guest, theirs))
            back.start()
            _carry(theirs, guest)
            back.join()

    threading.Thread(target=carry, daemon=True).start()
    return ours


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while piece := source.recv(65536):
            with contextlib.suppress(BrokenPipeError):
                sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Ignoring(socket.socket):
    """shutdown() of a half does nothing."""

    def shutdown(self, how: int) -> None:
        pass


class Ending(socket.socket):
    """It ends where it should send."""

    def sendall(self, *_: object) -> None:
        self.shutdown(socket.SHUT_WR)


def of(kind_of: type[socket.socket], way: Open) -> Open:
    """`way`, with a socket of that class."""

    def opened(where: Endpoint, kind: SocketType, patience: float) -> socket.socket:
        sock = way(where, kind, patience)
        return kind_of(sock.family, sock.type, sock.proto, fileno=sock.detach())

    return opened


def drained(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def other(sock: socket.socket) -> None:
    drained(sock)
    sock.sendall(b"\0" * 100)


def hearing(sock: socket.socket) -> None:
    """Says that it has shut down reading, and reads on."""
    sock.sendall(b"d")
    drained(sock)


def test_a_device_without_halves(agent: Path) -> None:
    seen = Raw(endpoint(agent), Initiated.HOST, 10.0, open_=without_halves).do(SEED, NO_HALVES)
    assert seen == {
        "bytes": 100_000,
        "seed": SEED,
        "type": "stream",
        "answer": "none",
        "own-write": "EPIPE",
        "to-deaf-agent": "written",
        "agents-write": "written",
    }


def test_a_half_that_takes_the_other_along(agent: Path) -> None:
    with pytest.raises(Wrong, match="want an answer of 100000 bytes, got its end after 0"):
        misbehaving(agent, drained).do(SEED, SHUTDOWN)


@BOTH
def test_an_answer_where_none_can_be(agent: Path, initiated: Initiated) -> None:
    with pytest.raises(Wrong, match="want an answer of 0 bytes, got its end after 100000"):
        raw(agent, initiated).do(SEED, NO_HALVES)


@EITHER
def test_an_answer_of_other_bytes(agent: Path, step: Shutdown) -> None:
    with pytest.raises(WrongData, match="answer: wrong data at byte 0"):
        misbehaving(agent, other).do(SEED, step)


@EITHER
@pytest.mark.parametrize("way", [open_, without_halves])
def test_a_write_after_the_end(agent: Path, way: Open, step: Shutdown) -> None:
    with pytest.raises(Wrong, match="want own-write EPIPE, got written"):
        in_turn(agent, of(Ignoring, way)).do(SEED, step)


@EITHER
def test_no_connection_at_all(agent: Path, tmp_path: Path, step: Shutdown) -> None:
    (tmp_path / "elsewhere").symlink_to(agent)
    for initiated in Initiated:
        with pytest.raises(Wrong, match="want a stream connection, got ENOENT"):
            raw(tmp_path / "elsewhere", initiated).do(SEED, step)


@pytest.mark.parametrize(
    ("step", "first", "second", "seen"),
    [
        (SHUTDOWN, open_, end_of(hearing), "want to-deaf-agent EPIPE, got written"),
        (NO_HALVES, without_halves, open_, "want to-deaf-agent written, got EPIPE"),
        (SHUTDOWN, open_, end_of(lambda _: None), "want the agent's word that .*, got the end"),
        (NO_HALVES, without_halves, end_of(lambda _: None), "want the agent's word .*, got the end"),
    ],
)
def test_an_agent_that_is_not_deaf(agent: Path, step: Shutdown, first: Open, second: Open, seen: str) -> None:
    with pytest.raises(Wrong, match=seen):
        in_turn(agent, first, second).do(SEED, step)


@pytest.mark.parametrize(
    ("step", "others", "third", "seen"),
    [
        (SHUTDOWN, open_, of(Ignoring, open_), "EPIPE, got written"),
        (NO_HALVES, without_halves, open_, "written, got EPIPE"),
        (NO_HALVES, without_halves, of(Ending, open_), "written, got EPIPE, nothing read before"),
    ],
)
def test_what_the_agent_writes_to_who_reads_no_more(
    agent: Path, step: Shutdown, others: Open, third: Open, seen: str
) -> None:
    with pytest.raises(Wrong, match=f"want agents-write {seen}"):
        in_turn(agent, others, others, third).do(SEED, step)
