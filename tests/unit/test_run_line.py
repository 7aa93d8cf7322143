"""What comes on the connection of a client that met a fault, and is not what it has to get."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent.decoder import Decoder
from harness.agent.seeded import Seeded
from harness.agent.wire import Frame, Kind, encode
from harness.guest.errors import AgentError, Garbled, StaleReply, WrongData
from harness.model.errors import SystemFailure
from harness.model.factwords import SILENT
from harness.model.link import Endpoint, Link
from harness.model.plan import Initiated
from harness.run.doing import ASKED, GUESTS_CHUNK, SENT, Activity, Idle, Receiving, Sending
from harness.run.fresh import LAST, NEXT, answer, reconnected, round_trip
from harness.run.line import PINGED, Line

SEED = 7
Spoil = Callable[[list[Frame]], list[Frame]]


class Far:
    """A line, and the agent at its other end, by hand."""

    def __init__(self) -> None:
        near, self.sock = socket.socketpair()
        self.line = Line(near)
        self._saying: threading.Thread | None = None

    def says(self, *frames: Frame) -> None:
        """Also more than the socket takes at once."""
        data = b"".join(map(encode, frames))
        if len(data) < 4096:
            self.sock.sendall(data)
            return
        self._saying = threading.Thread(target=self._say, args=(data,))
        self._saying.start()

    def _say(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who reads it may have had enough
            self.sock.sendall(data)

    def close(self) -> None:
        self.line.sock.close()
        if self._saying:
            self._saying.join()
        self.sock.close()

    def pong(self, which: int = LAST) -> Frame:
        return Frame(Kind.DATA, self.line.work + which, PINGED)

    def done(self, count: int, wrong: object = None) -> Frame:
        return Frame(Kind.DONE, self.line.work, json.dumps({"bytes": count, "wrong": wrong}).encode())

    def data(self, count: int = ASKED) -> list[Frame]:
        whole = Seeded(SEED, ASKED)
        starts = range(0, count, GUESTS_CHUNK)
        return [Frame(Kind.DATA, self.line.work, bytes(whole.piece(at, GUESTS_CHUNK))) for at in starts]


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.close()


def then(far: Far, activity: Activity) -> str:
    """As `Encounter.then` asks."""
    far.line.other = activity.take
    activity.finish()
    said = round_trip(far.line, 20)
    activity.whole()
    return said


def sender(far: Far) -> Sending:
    """One that has sent a request, and 100 bytes of the next one."""
    sending = Sending(far.line, SEED)
    sending.start()
    sending._sent = 100
    sending._asked.appendleft(SENT)
    return sending


def test_a_sender_is_answered_for_each_byte(far: Far) -> None:
    far.says(far.done(SENT), far.done(100), far.pong())
    assert then(far, sender(far)) == "served"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda frames: frames[1:], WrongData),  # an answer is lost
        (lambda frames: [frames[0], frames[2]], Garbled),
        (lambda frames: [frames[0], *frames], WrongData),
    ],
)
def test_a_senders_answer_that_is_lost_or_comes_twice(
    far: Far, spoil: Spoil, error: type[SystemFailure]
) -> None:
    far.says(*spoil([far.done(SENT), far.done(100), far.pong()]))
    with pytest.raises(error):
        then(far, sender(far))


def test_a_sender_hears_that_the_agent_read_something_else(far: Far) -> None:
    wrong = {"at": 65536, "expected": "00", "seen": "ff"}
    far.says(far.done(SENT, wrong), far.done(100), far.pong())
    with pytest.raises(WrongData, match="byte 65536"):
        then(far, sender(far))


def test_a_sender_hears_that_less_came(far: Far) -> None:
    far.says(far.done(SENT), far.done(99), far.pong())
    with pytest.raises(WrongData, match="count"):
        then(far, sender(far))


def test_a_receiver_reads_what_it_asked_for(far: Far) -> None:
    receiving = Receiving(far.line, SEED)
    far.says(*far.data(), far.done(ASKED), *far.data(), far.done(ASKED), far.pong())
    assert then(far, receiving) == "served"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda data: data[1:], WrongData),  # a whole frame is lost
        (lambda data: data[:-1], WrongData),  # the last one
        (lambda data: [*data[:3], *data[2:]], WrongData),  # one comes twice
        (lambda data: [*data, data[-1]], WrongData),
        (lambda data: [*data[:2], data[2]._replace(payload=b"\xff" * 5000), *data[3:]], WrongData),
        (lambda data: [*data[:2], Frame(Kind.DATA, 12345, b"x"), *data[2:]], StaleReply),
        (lambda data: [*data, Frame(Kind.ERROR, 0, b'{"code":"bad-frame-torn","message":"x"}')], AgentError),
    ],
)
def test_a_receiver_reads_something_else(far: Far, spoil: Spoil, error: type[SystemFailure]) -> None:
    far.says(*far.data(), far.done(ASKED), *spoil(far.data()), far.done(ASKED), far.pong())
    with pytest.raises(error):
        then(far, Receiving(far.line, SEED))


def test_a_receiver_misses_an_answer(far: Far) -> None:
    far.says(*far.data(), far.done(ASKED), far.pong())
    with pytest.raises(Garbled, match="1 requests were not answered"):
        then(far, Receiving(far.line, SEED))


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (Frame(Kind.DATA, 12345, b"somebody else's answer"), StaleReply),
        (Frame(Kind.EXIT, 12345, b"{}"), Garbled),
        (Frame(Kind.ERROR, 0, b'{"code":"bad-frame-crc","message":"x"}'), AgentError),
    ],
)
def test_an_idle_one_reads_anything(far: Far, frame: Frame, error: type[SystemFailure]) -> None:
    idle = Idle(far.line, SEED)
    far.says(frame)
    with pytest.raises(error):
        idle.move()
    far.says(frame, far.pong())
    with pytest.raises(error):
        then(far, idle)
    far.says(far.pong(), frame)  # in one piece
    with pytest.raises(error):
        then(far, Idle(far.line, SEED))


def test_an_idle_one_reads_the_answer_to_another_request_of_its_own(far: Far) -> None:
    far.says(Frame(Kind.DATA, far.line.work + 1, b"x"))
    with pytest.raises(Garbled, match="read a DATA of 1 bytes, where none was to come"):
        Idle(far.line, SEED).move()


def test_what_was_sent_at_the_fault_is_answered_before_what_was_sent_after_it(far: Far) -> None:
    far.line.ping(NEXT)
    far.says(far.pong(NEXT), far.pong())
    assert then(far, Idle(far.line, SEED)) == "served"
    far.line.ping(NEXT)
    far.says(far.pong())
    with pytest.raises(Garbled, match="what was sent before was not"):
        then(far, Idle(far.line, SEED))


def test_an_answer_has_what_was_sent(far: Far) -> None:
    far.says(far.pong()._replace(payload=b"beet"))
    with pytest.raises(WrongData):
        then(far, Idle(far.line, SEED))


def test_who_takes_a_port_over_need_not_answer_for_who_was_there(far: Far) -> None:
    far.line.ping(NEXT)
    far.line.overlook()
    far.says(far.done(SENT), Frame(Kind.ERROR, 0, b"{}"), far.pong())
    assert round_trip(far.line, 20) == "served"


def test_half_a_frame_is_the_end_of_who_was_there(far: Far) -> None:
    half = encode(Frame(Kind.DATA, 1, b"x" * 500))[:300]
    far.line.overlook()
    far.sock.sendall(half)
    far.says(far.pong())
    assert round_trip(far.line, 20) == "served"
    far.line.other = Idle(far.line, SEED).take
    far.sock.sendall(half)
    far.says(far.pong())
    with pytest.raises(Garbled, match="no frame"):
        round_trip(far.line, 20)


@pytest.mark.parametrize(
    ("comes", "got"),
    [
        (Frame(Kind.ERROR, 0, b'{"code": "bad-frame-torn", "message": "torn"}'), "garbled"),
        (Frame(Kind.DATA, 1, b"another's"), "garbled"),
        (None, "served"),
    ],
)
def test_what_a_new_connection_reads_that_is_no_answer_is_told(
    tmp_path: Path, comes: Frame | None, got: str
) -> None:
    path = tmp_path / "new"

    def serve() -> None:
        with listener.accept()[0] as far:
            asked = far.recv(4096)  # a ping comes in one piece, and its answer is the same
            far.sendall(encode(comes) if comes else asked_to_answer(asked))
            far.recv(1)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        serving = threading.Thread(target=serve)
        serving.start()
        where = Endpoint(link=Link.SERIAL_PROXY, path=str(path))
        assert reconnected(where, Initiated.HOST, 20) == got
        serving.join()


def asked_to_answer(asked: bytes) -> bytes:
    """The DATA that answers an ECHO."""
    (frame,) = Decoder().feed(asked)
    assert isinstance(frame, Frame)
    return encode(Frame(Kind.DATA, frame.request, frame.payload))


def test_no_answer_is_silence(far: Far) -> None:
    far.line.ping(LAST)
    before = time.monotonic()
    assert answer(far.line, 0.05) == SILENT
    assert time.monotonic() - before >= 0.05


def test_lines_have_requests_of_their_own() -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    assert len({Line(near).work for near, _ in pairs}) == 20
    for pair in pairs:
        for sock in pair:
            sock.close()
