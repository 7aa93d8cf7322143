"""No corruption kills the agent, on whatever it is spoken to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.wire import SYNC, Bulk, Frame, Kind, parts
from tests.unit.agents import serial_like_agent
from tests.unit.peers import Peer


@pytest.fixture(scope="module")
def line() -> Iterator[Peer]:
    with serial_like_agent("port") as path, Peer(path) as peer:
        yield peer


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_corruption_kills_the_agent_on_a_serial_port(line: Peer, data: st.DataObject) -> None:
    line.sock.sendall(data.draw(corrupted()))
    line.send(Kind.ECHO, 77, b"still there")
    line.read_until(Frame(Kind.DATA, 77, b"still there"))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_corruption_kills_the_agent_on_connections(many: Path, data: st.DataObject) -> None:
    with Peer(many) as peer:
        peer.sock.sendall(data.draw(corrupted()))
        peer.sock.shutdown(socket.SHUT_WR)
        try:
            while True:
                peer.read()
        except (EOFError, ConnectionResetError):
            pass
    with Peer(many) as peer:
        peer.send(Kind.ECHO, 1)
        assert peer.read() == Frame(Kind.DATA, 1)


@st.composite
def corrupted(draw: st.DrawFn) -> bytes:
    """Good frames with bytes changed, left out or put in; nothing among them starts a process."""
    kinds = [kind for kind in Kind if kind != Kind.RUN]
    payloads = st.binary(max_size=40) | st.sampled_from([b"{}", b'{"bytes": 100}', SYNC])
    frames = st.builds(Frame, st.sampled_from(kinds), st.integers(0, 5), payloads)
    drawn = draw(st.lists(frames, min_size=1, max_size=4))
    sent = (Bulk(f.request, memoryview(f.payload)) if f.kind == Kind.BULK else f for f in drawn)
    damaged = bytearray(b"".join(piece for one in sent for piece in parts(one)))
    for at, how in draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=5)), max_size=6)):
        place = at % (len(damaged) + 1)
        damaged[place : place + draw(st.integers(0, 5))] = how
    return bytes(damaged)
