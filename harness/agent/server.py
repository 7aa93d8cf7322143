"""The agent: every channel served by a thread of its own."""

# Importing pathlib would cost more than it gives.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from typing import Any

from . import digest, facts
from .channel import Channel, ConnectionChannel, Line
from .mux import Mux
from .session import Session
from .sockets import Sockets

_REMEMBERED = 256
"""So many ended connections with a label are kept in mind."""

_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Agent:
    """All sessions of this process. Every method may be called from any thread.

    `in_guest`: the machine is the agent's to change (see `identity.adopt`), not its developer's.
    `beside`: the Unix socket that it serves instead of vsock (see `Sockets`).
    """

    def __init__(self, *, in_guest: bool = False, beside: str = "") -> None:
        self.in_guest = in_guest
        self._sockets = Sockets(self.start, self.note, beside)
        self.digest = digest(os.path.dirname(os.path.abspath(__file__)))
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        # label → how and when its connection ended, when its last container was reaped; oldest first
        self._ended: dict[str, tuple[str, float]] = {}
        self._removed: dict[str, float] = {}

    def listen(self, listener: socket.socket, name: str) -> None:
        """Accept connections on a listening socket for ever, each served by a thread of its own.

        :raise OSError: if the listener itself fails.
        """
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in _FULL:
                    # Nothing tells when a descriptor gets free; the clients wait in the backlog meanwhile.
                    select.poll().poll(100)
                    continue
                if error.errno in (errno.ECONNABORTED, errno.ECONNRESET, errno.ENOTCONN):
                    continue
                raise
            self.start(ConnectionChannel(name, connection))

    def start(self, channel: Channel) -> threading.Thread | None:
        """Serve `channel` in a thread of its own; if no thread can be had, close it and return None."""
        thread = threading.Thread(target=self.serve, args=(channel,), name=channel.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            channel.close()
            return None
        return thread

    def start_line(self, line: Line) -> threading.Thread | None:
        """Serve every stream that comes by `line`; if no thread can be had, close it and return None."""
        thread = threading.Thread(target=self.serve_line, args=(line,), name=line.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            line.close()
            return None
        return thread

    def serve_line(self, line: Line) -> None:
        """Serve each stream that comes by `line` as a connection, until the line is over, then close it."""
        device = line.name if line.lasting else None

        def start(connection: socket.socket, left: int) -> bool:
            return self.start(ConnectionChannel(line.name, connection, device, left)) is not None

        try:
            Mux(line, start).run()
        finally:
            line.close()

    def serve(self, channel: Channel) -> None:
        """Serve `channel` until it is over, then close it and end its containers."""
        session = Session(
            channel, self.digest, self.facts, self._sockets, in_guest=self.in_guest, removed=self._reaped
        )
        with self._lock:
            self._sessions.add(session)
        try:
            session.run()
        finally:
            at = time.monotonic()
            session.end_containers()  # before it is forgotten: who counts none may rely on it
            self.note(session.label, channel.why, at)
            with self._lock:
                self._sessions.discard(session)
            channel.close()

    def note(self, label: str, how: str, at: float | None = None) -> None:
        """Keep in mind how what has that `label` ended, and when (CLOCK_MONOTONIC, by default now)."""
        if label:
            with self._lock:
                _remember(self._ended, label, (how, time.monotonic() if at is None else at))

    def _reaped(self, label: str) -> None:
        with self._lock:
            _remember(self._removed, label, time.monotonic())

    def facts(self) -> dict[str, Any]:
        """FACTS's answer: `facts.facts`, sessions, all running containers, and of labelled sessions how they
        ended, and how long `ago` the last container of a client that went was reaped."""
        with self._lock:
            sessions = list(self._sessions)
            now = time.monotonic()
            ended = {label: {"how": how, "ago": now - at} for label, (how, at) in self._ended.items()}
        told = {"sessions": len(sessions), "containers": sum(session.running for session in sessions)}
        with self._lock:  # after they were counted: those that are not there any more were removed before
            now = time.monotonic()
            removed = {label: now - at for label, at in self._removed.items()}
        return {**facts.facts(), **told, "ended": ended, "removed": removed}

    def end_containers(self) -> None:
        """Kill all containers of all sessions."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.end_containers()


def _remember(table: dict[str, Any], label: str, value: Any) -> None:
    """Put it last, and forget the oldest of too many."""
    table.pop(label, None)
    table[label] = value
    if len(table) > _REMEMBERED:
        del table[next(iter(table))]
