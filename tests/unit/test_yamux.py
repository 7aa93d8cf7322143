"""The server side of yamux as a protocol: what it makes of frames, and of what is none."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent import yamux
from harness.agent.yamux import ACK, CHUNK, FIN, RST, SYN, WINDOW, Data, Ended, Finished, Opened, Reset, Type

HEADER = struct.Struct(">BBHII")


def syn(stream: int) -> bytes:
    return yamux.frame(Type.WINDOW_UPDATE, SYN, stream, 0)


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return yamux.frame(Type.DATA, flags, stream, len(payload), payload)


def fed(server: yamux.Server, *frames: bytes) -> list[yamux.Event]:
    """What the frames mean, with streams accepted as a caller does."""
    events = []
    for event in server.feed(b"".join(frames)):
        if isinstance(event, Opened):
            server.accept(event.stream)
        events.append(event)
    return events


def sent(server: yamux.Server) -> list[tuple[int, int, int, int, bytes]]:
    """All that the server has to send: type, flags, stream, length, data."""
    return list(frames(bytes(server.output)))


def frames(raw: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    while raw:
        version, kind, flags, stream, length = HEADER.unpack_from(raw)
        assert version == 0
        size = length if kind == Type.DATA else 0
        yield kind, flags, stream, length, raw[HEADER.size : HEADER.size + size]
        raw = raw[HEADER.size + size :]


def open_server(*streams: int) -> yamux.Server:
    server = yamux.Server()
    fed(server, *map(syn, streams))
    server.output.clear()
    return server


def test_the_frame_is_the_specifications() -> None:
    made = yamux.frame(Type.DATA, SYN | FIN, 7, 3, b"abc")
    assert made == bytes.fromhex("00 00 0005 00000007 00000003") + b"abc"


def test_a_stream_is_opened_and_acknowledged_and_carries_data_both_ways() -> None:
    server = yamux.Server()
    assert fed(server, syn(1), data(1, b"hello")) == [Opened(1), Data(1, b"hello")]
    server.send(1, b"there")
    assert sent(server) == [(Type.WINDOW_UPDATE, ACK, 1, 0, b""), (Type.DATA, 0, 1, 5, b"there")]


def test_the_first_frame_of_a_stream_may_carry_data_and_its_end() -> None:
    server = yamux.Server()
    assert fed(server, data(1, b"all", SYN | FIN)) == [Opened(1), Data(1, b"all"), Finished(1)]
    server.send(1, b"yes")
    assert server.close(1)
    assert sent(server)[-1] == (Type.WINDOW_UPDATE, FIN, 1, 0, b"")
    assert server.room(1) == 0


def test_each_side_ends_its_own_direction() -> None:
    server = open_server(1)
    assert not server.close(1)
    assert server.room(1) == 0
    assert fed(server, data(1, b"still")) == [Data(1, b"still")]
    assert fed(server, data(1, b"", FIN)) == [Finished(1)]
    assert server.close(1), "it is over already"
    assert len(sent(server)) == 1, "one FIN"


def test_a_reset_ends_both_directions() -> None:
    server = open_server(1, 3)
    assert fed(server, data(1, b"lost", RST), data(3, b"kept")) == [
        Data(1, b"lost"),
        Reset(1),
        Data(3, b"kept"),
    ]
    server.reset(3)
    assert sent(server) == [(Type.WINDOW_UPDATE, RST, 3, 0, b"")]
    server.reset(3)
    assert len(sent(server)) == 1


def test_what_still_comes_for_a_stream_that_is_over_is_dropped() -> None:
    server = open_server(1, 3)
    server.reset(1)
    late = [data(1, b"x" * WINDOW), data(1, b"more"), yamux.frame(Type.WINDOW_UPDATE, FIN, 1, 9)]
    assert fed(server, *late, data(3, b"next")) == [Data(3, b"next")]


def test_a_window_is_256_kib_and_is_given_back_by_halves() -> None:
    server = open_server(1)
    assert server.room(1) == WINDOW == 262144
    fed(server, data(1, bytes(WINDOW)))
    server.consumed(1, WINDOW // 2 - 1)
    assert not server.output
    server.consumed(1, 1)
    assert sent(server) == [(Type.WINDOW_UPDATE, 0, 1, WINDOW // 2, b"")]
    assert fed(server, data(1, bytes(WINDOW // 2))) == [Data(1, bytes(WINDOW // 2))]
    assert isinstance(fed(server, data(1, b"x"))[0], Ended)


def test_sending_takes_of_the_window_and_updates_add_to_it() -> None:
    server = open_server(1, 3)
    server.send(1, bytes(WINDOW))
    assert (server.room(1), server.room(3)) == (0, WINDOW)
    assert fed(server, yamux.frame(Type.WINDOW_UPDATE, 0, 1, 1000)) == []
    assert server.room(1) == 1000
    lengths = [length for _, _, _, length, _ in sent(server)]
    assert lengths == [CHUNK] * (WINDOW // CHUNK)


def test_a_client_may_begin_with_a_larger_window() -> None:
    server = yamux.Server()
    fed(server, yamux.frame(Type.WINDOW_UPDATE, SYN, 1, WINDOW))
    assert server.room(1) == 2 * WINDOW


def test_pings_are_answered_and_answers_are_not() -> None:
    server = yamux.Server()
    ping = yamux.frame(Type.PING, SYN, 0, 0xDEADBEEF)
    pong = yamux.frame(Type.PING, ACK, 0, 5)
    assert fed(server, ping, pong) == []
    assert sent(server) == [(Type.PING, ACK, 0, 0xDEADBEEF, b"")]


def test_a_client_that_wants_no_more_streams_keeps_those_it_has() -> None:
    server = open_server(1)
    assert fed(server, yamux.frame(Type.GO_AWAY, 0, 0, yamux.NORMAL), data(1, b"on")) == [Data(1, b"on")]


def test_a_client_that_goes_away_with_an_error_ends_the_session() -> None:
    server = open_server(1)
    assert fed(server, yamux.frame(Type.GO_AWAY, 0, 0, 2), data(1, b"on")) == [
        Ended("the other end went away with code 2", data(1, b"on"))
    ]
    assert not server.output


def test_streams_beyond_the_most_are_reset_and_the_others_live() -> None:
    server = yamux.Server()
    numbers = range(1, 2 * yamux.MAX_STREAMS + 2, 2)
    opened = fed(server, *map(syn, numbers))
    assert opened == [Opened(number) for number in numbers[:-1]]
    assert sent(server)[-1] == (Type.WINDOW_UPDATE, RST, numbers[-1], 0, b"")
    assert fed(server, data(numbers[-1], b"dropped"), data(1, b"x")) == [Data(1, b"x")]


def test_streams_may_be_opened_out_of_order() -> None:
    server = open_server(1)
    assert fed(server, syn(5), syn(3), data(3, b"x")) == [Opened(5), Opened(3), Data(3, b"x")]


def test_a_second_first_stream_is_that_of_a_new_client() -> None:
    server = open_server(1, 3, 5)
    fed(server, data(1, b"", FIN))
    server.close(1)
    assert fed(server, syn(1), data(1, b"new")) == [Reset(3), Reset(5), Opened(1), Data(1, b"new")]
    assert sent(server) == [(Type.WINDOW_UPDATE, ACK, 1, 0, b"")], "nothing of before"
    assert fed(server, syn(3)) == [Opened(3)]


HOSTILE = {
    "version": b"\1" + bytes(11),
    "type": b"\0\4" + bytes(10),
    "even": syn(2),
    "zero": syn(0),
    "twice": syn(3) + syn(3),
    "data for none": data(9, b"x"),
    "window for none": yamux.frame(Type.WINDOW_UPDATE, 0, 9, 1),
    "data for the session": data(0, b"x"),
    "over the window at once": yamux.frame(Type.DATA, SYN, 5, WINDOW + 1),
    "over the window bit by bit": syn(5) + data(5, bytes(WINDOW)) + data(5, b"x"),
    "four gigabytes": yamux.frame(Type.DATA, 0, 1, 0xFFFFFFFF),
    "over any window, on a stream that is over": data(1, b"", RST) + yamux.frame(Type.DATA, 0, 1, WINDOW + 1),
    "window of 33 bits": yamux.frame(Type.WINDOW_UPDATE, 0, 1, 0xFFFFFFFF),
    "data after the end": data(1, b"", FIN) + data(1, b"x"),
    "two ends": data(1, b"", FIN) + data(1, b"", FIN),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_breaks_the_protocol_ends_the_session_with_a_go_away(what: str) -> None:
    server = open_server(1)
    events = fed(server, HOSTILE[what], syn(11), data(11, b"later"))
    assert isinstance(events[-1], Ended)
    assert Opened(11) not in events
    assert sent(server)[-1] == (Type.GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR, b"")
    assert fed(server, syn(1), b"anything") == []
    assert server.room(1) == 0


def merged(events: list[yamux.Event]) -> list[yamux.Event]:
    """Pieces of one stream's data that follow each other as one: how it was cut is chance."""
    result: list[yamux.Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, Data) and isinstance(last, Data) and last.stream == event.stream:
            result[-1] = Data(event.stream, last.data + event.data)
        elif event != Data(getattr(event, "stream", 0), b""):
            result.append(event)
    return result


streams = st.sampled_from([1, 3, 5, 7])
actions = st.one_of(
    st.tuples(st.just("data"), streams, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("finish"), streams, st.just(b"")),
    st.tuples(st.just("reset"), streams, st.just(b"")),
    st.tuples(st.just("ping"), streams, st.just(b"")),
)


@given(st.lists(actions, max_size=20), st.randoms(use_true_random=False))
def test_however_the_bytes_are_cut_the_meaning_is_the_same(
    todo: list[tuple[str, int, bytes]], chance: random.Random
) -> None:
    raw, expected = client_of(todo)
    server = yamux.Server()
    events: list[yamux.Event] = []
    while raw:
        size = chance.randint(1, 30)
        events += fed(server, raw[:size])
        raw = raw[size:]
    assert merged(events) == merged(expected)
    assert not any(kind == Type.GO_AWAY for kind, *_ in sent(server))


def client_of(todo: list[tuple[str, int, bytes]]) -> tuple[bytes, list[yamux.Event]]:
    """A client that keeps to the protocol: its bytes, and what they mean."""
    raw, expected = b"", list[yamux.Event]()
    state: dict[int, str] = {}
    for what, stream, payload in todo:
        if what == "ping":
            raw += yamux.frame(Type.PING, SYN, 0, stream)
            continue
        flags = 0
        if stream not in state:
            state[stream], flags = "open", SYN
            expected.append(Opened(stream))
        if state[stream] != "open":
            continue
        if what == "data":
            raw += data(stream, payload, flags)
            expected.append(Data(stream, payload))
        else:
            state[stream] = "over"
            raw += data(stream, b"", flags | (FIN if what == "finish" else RST))
            expected.append(Finished(stream) if what == "finish" else Reset(stream))
    return raw, expected


header = st.builds(
    HEADER.pack,
    st.integers(0, 1),
    st.integers(0, 4),
    st.integers(0, 15),
    st.integers(0, 9),
    st.one_of(st.integers(0, 40), st.just(WINDOW), st.integers(0, 0xFFFFFFFF)),
)
noise = st.lists(st.one_of(header, st.binary(max_size=20)), max_size=40).map(b"".join)


@settings(max_examples=300)
@given(noise)
def test_no_input_raises_or_makes_it_say_more_than_it_was_told(raw: bytes) -> None:
    server = yamux.Server()
    events = list(server.feed(raw))
    assert len(server.output) <= len(raw) + HEADER.size
    assert sum(len(event.data) for event in events if isinstance(event, Data)) <= len(raw)
    ends = [event for event in events if isinstance(event, Ended)]
    assert ends == events[len(events) - len(ends) :]
    assert len(ends) <= 1


@given(st.lists(st.tuples(streams, st.integers(1, WINDOW // 3)), max_size=12))
def test_no_stream_holds_more_than_a_window_that_nobody_takes(pieces: list[tuple[int, int]]) -> None:
    server = open_server(1, 3, 5, 7)
    held = dict.fromkeys((1, 3, 5, 7), 0)
    for stream, size in pieces:
        for event in server.feed(data(stream, bytes(size))):
            if isinstance(event, Data):
                held[stream] += len(event.data)
            else:
                assert held[stream] + size > WINDOW
                return
    assert max(held.values()) <= WINDOW
