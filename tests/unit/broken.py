"""Ways in which a real agent is made to misbehave: words of Python that are run before it starts."""

from __future__ import annotations

DROPS_LARGE_WRITES = """
from agent.channel import ConnectionChannel
def _write(self, pieces, real=ConnectionChannel._write):
    if sum(map(len, pieces)) <= 32768:
        real(self, pieces)
ConnectionChannel._write = _write
"""
"""What is written at once and is longer than 32 KiB gets lost, as in vhost-device-vsock 0.3.0."""

DROPS_LARGE_WRITES_WHERE_IT_DIALLED = """
from agent import sockets
from agent.channel import ConnectionChannel
class Dialled(ConnectionChannel):
    def _write(self, pieces):
        if sum(map(len, pieces)) <= 32768:
            super()._write(pieces)
sockets.ConnectionChannel = Dialled
"""
"""The same, but on connections that it opened only."""

SEES_LARGE_DATA_WRONG = """
from agent.sink import Sink
def _take(self, piece, real=Sink.take):
    real(self, piece if len(piece) < 40000 else bytes(len(piece)))
Sink.take = _take
"""
"""What comes to it in a large piece is lost on its way."""

DAMAGES_WHAT_IT_SENDS = """
from agent import session
def _pieces(*arguments, real=session.pieces, **named):
    for piece in real(*arguments, **named):
        yield piece._replace(payload=bytes(piece.payload)[:-1] + bytes([piece.payload[-1] ^ 1]))
session.pieces = _pieces
"""
"""One bit of each piece of bulk is another."""

SERVES_ONE_AT_A_TIME = """
from agent.server import Agent
Agent.start = lambda self, channel: self.serve(channel)
"""
"""The next connection is accepted when the one before has ended."""

NEVER_ANSWERS_LATE = """
from agent.channel import Channel
Channel.keep = lambda self, frame: True
"""
"""The answer that is to come when its client has left is thrown away."""

ALWAYS_HAS_A_STALE_ANSWER = """
from agent.channel import Channel
from agent.wire import Frame, Kind
def _send(self, frame, real=Channel.send):
    real(self, Frame(Kind.DATA, frame.request ^ 1 << 30, b"x"))
    real(self, frame)
Channel.send = _send
"""
"""Before each answer comes one to a request that its client never made."""

ANSWERS_WHOEVER_IS_THERE = """
from agent.channel import Channel
from agent.wire import parts
late = []
def _keep(self, frame):
    late.append(parts(frame))
    return True
def _send(self, frame, real=Channel.send):
    self._kept, late[:] = late[:], []
    real(self, frame)
Channel.keep, Channel.send = _keep, _send
"""
"""A late answer goes out on whichever connection is written to next."""

GIVES_ALL_THE_FIRST_STDIN = """
from agent.container import Container
def _feed(self, data, owner, real=Container.feed, said=[]):
    said += [data] if data else []
    real(self, said[0] if data else data, owner)
Container.feed = _feed
"""
"""Each container reads what the first one was told."""

KEEPS_CONTAINERS = """
import threading
from agent.session import Session
def _run(self, real=Session.run):
    real(self)
    threading.Event().wait()
Session.run = _run
"""
"""A session whose client has gone is never over, so its containers go on."""

REMOVES_CONTAINERS_LATE = """
import time
from agent.session import Session
def _end(self, real=Session.end_containers):
    time.sleep(1.5 * bool(self.running))
    real(self)
Session.end_containers = _end
"""
"""The containers of a client that has gone run on for a while: over before anybody counts them."""

TELLS_OTHERS = """
import contextlib
from agent.channel import Gone
from agent.session import Session
sessions = []
def _echo(self, frame, real=Session._echo):
    for other in sessions:
        with contextlib.suppress(Gone):
            real(other, frame)
    real(self, frame)
def _hello(self, frame, real=Session._hello):
    real(self, frame)
    sessions.append(self)
Session._echo, Session._hello = _echo, _hello
"""
"""An echo goes to all who have said who they are as well."""

FORGETS_WHAT_CAME = """
from agent.session import Session
def _finish(self, request, cut=False, real=Session._finish_sink):
    if self._sinks[request].whole:
        del self._sinks[request]
    else:
        real(self, request, cut=cut)
Session._finish_sink = _finish
"""
"""Of what came whole it does not say that it did."""

CUTS_ALL_OFF_AT_A_DEATH = """
import contextlib, socket
from agent.session import Session
sessions = []
def _run(self, real=Session.run):
    sessions.append(self)
    real(self)
def _end(self, real=Session.end_containers):
    others = [one for one in sessions if one is not self] if self._containers else []
    real(self)
    for other in others:
        with contextlib.suppress(OSError):
            other._channel._connection.shutdown(socket.SHUT_RDWR)
Session.run, Session.end_containers = _run, _end
"""
"""With a client that leaves a container behind, the connections of all end."""
