"""Serving one channel: its requests, its sinks, its containers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from . import facts, identity, sockets
from .bulk import BULK
from .channel import Channel, Gone
from .container import Container
from .decoder import Decoder
from .errnos import errno_name
from .ports import try_open
from .request import Refused, as_json, fields
from .sink import Sink, pieces
from .sockets import Sockets
from .wire import MAX_PAYLOAD, BadFrame, Frame, Kind

_SINKS_MAX = 16


class Session:
    """One channel being served. Requests are done in the order in which they come."""

    def __init__(
        self,
        channel: Channel,
        digest: str,
        agent_facts: Callable[[], dict[str, Any]],
        sockets_here: Sockets,
        *,
        in_guest: bool = False,
        removed: Callable[[str], None] = lambda label: None,
    ) -> None:
        """`removed` is told its label when the last container of a client that went was reaped."""
        self._channel = channel
        self._removed = removed
        self._in_guest = in_guest
        self._digest = digest
        self._agent_facts = agent_facts
        self._sockets = sockets_here
        self._sinks: dict[int, Sink] = {}
        self._lock = threading.Lock()
        self._containers: dict[int, Container] = {}
        self._clients_left = 0
        self.label = ""
        """What its client calls itself, by HELLO."""
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Kind.HELLO: self._hello,
            Kind.ECHO: self._echo,
            Kind.ECHO_LATER: self._echo_later,
            Kind.SINK: self._sink,
            Kind.DATA: self._data,
            Kind.BULK: self._data,
            Kind.SOURCE: self._source,
            Kind.RUN: self._run,
            Kind.STDIN: self._stdin,
            Kind.SIGNAL: self._signal,
            Kind.OPEN_DEVICE: self._open_device,
            Kind.FACTS: self._facts,
            Kind.CLONED: self._cloned,
            Kind.DIAL: lambda frame: self._make(frame, self._sockets.dial, sockets.DIAL),
            Kind.LISTEN: lambda frame: self._make(frame, self._sockets.listen, sockets.LISTEN),
        }

    @property
    def running(self) -> int:
        """How many containers run for this channel."""
        with self._lock:
            return len(self._containers)

    def run(self) -> None:
        """Read, decode, do, until the channel is over."""
        self._channel.watch(self._client_left)
        decoder = Decoder(take=self._take, bulk=not self._channel.lasting)
        try:
            while count := self._channel.read(decoder.room(), decoder.lacks):
                for frame in decoder.filled(count):
                    if isinstance(frame, Frame):
                        self._handle(frame)
                        continue
                    self._complain(frame)
                    if not self._channel.lasting:
                        return
        except Gone:
            return

    def end_containers(self) -> None:
        """Kill all containers of this channel; none of them sends anything more."""
        with self._lock:
            self._remove()

    def _remove(self) -> None:
        """End all containers, the lock being held: who counts none finds their removal told."""
        ended, self._containers = self._containers, {}
        for container in ended.values():
            container.end()
        if ended and self.label:
            self._removed(self.label)

    def _client_left(self, certain: bool) -> None:
        with self._lock:
            if not certain and not self._channel.hung_up():
                return
            self._clients_left += 1
            self._remove()

    def _handle(self, frame: Frame) -> None:
        handler = self._handlers.get(frame.kind)
        try:
            if handler is None:
                raise Refused("unknown-kind", f"no request is of kind {frame.kind}")
            handler(frame)
        except Refused as refusal:
            self._send(Kind.ERROR, frame.request, as_json({"code": refusal.code, "message": str(refusal)}))

    def _complain(self, bad: BadFrame) -> None:
        message = f"{bad.skipped} bytes that are no frame: {bad.reason}"
        self._send(Kind.ERROR, 0, as_json({"code": f"bad-frame-{bad.reason}", "message": message}))

    def _send(self, kind: Kind, request: int, payload: bytes) -> None:
        self._channel.send(Frame(kind, request, payload))

    def _reply(self, frame: Frame, answer: object) -> None:
        self._send(Kind.REPLY, frame.request, as_json(answer))

    def _hello(self, frame: Frame) -> None:
        wish = fields(frame, sole=False, label="")
        self.label = wish["label"]
        if wish["sole"] and self._channel.lasting:
            self._client_left(True)
        self._reply(frame, facts.hello(self._digest, self._channel.name))

    def _cloned(self, frame: Frame) -> None:
        wish = fields(frame, boot_id="", now=0)
        if not self._in_guest:
            raise Refused("not-in-guest", "this agent serves a developer's machine, which is no clone")
        try:
            identity.adopt(wish["boot_id"], wish["now"])
        except (ValueError, OSError) as error:
            code = errno_name(error) if isinstance(error, OSError) else "bad-request"
            raise Refused(code, f"boot identity: {error}") from error
        self._reply(frame, facts.hello(self._digest, self._channel.name))

    def _echo(self, frame: Frame) -> None:
        self._send(Kind.DATA, frame.request, frame.payload)

    def _echo_later(self, frame: Frame) -> None:
        if not self._channel.keep(Frame(Kind.DATA, frame.request, frame.payload)):
            raise Refused("too-much-kept", "the replies kept for later are too long already")

    def _sink(self, frame: Frame) -> None:
        wish = fields(frame, seed=0, bytes=0)
        if len(self._sinks) >= _SINKS_MAX:  # left open by clients that went away on a serial port
            del self._sinks[next(iter(self._sinks))]
        self._sinks[frame.request] = Sink(wish["seed"], wish["bytes"])
        self._widen(wish["bytes"])
        self._finish_sink(frame.request)

    def _data(self, frame: Frame) -> None:
        sink = self._sinks.get(frame.request)
        if sink is None:
            raise Refused("no-sink", f"{Kind(frame.kind).name} for a request that is no open SINK")
        sink.take(frame.payload)
        self._finish_sink(frame.request, cut=not frame.payload)

    def _take(self, kind: int, request: int, payload: memoryview) -> bool:
        """A large piece of a sink, where it lies."""
        sink = self._sinks.get(request) if kind in (Kind.DATA, Kind.BULK) else None
        if sink is None:
            return False
        sink.take(payload)
        self._finish_sink(request)
        return True

    def _widen(self, total: int) -> None:
        if total >= BULK:
            self._channel.widen()

    def _finish_sink(self, request: int, *, cut: bool = False) -> None:
        sink = self._sinks[request]
        if cut or sink.whole:
            del self._sinks[request]
            self._send(Kind.DONE, request, as_json({"bytes": sink.came, "wrong": sink.wrong}))

    def _source(self, frame: Frame) -> None:
        wish = fields(frame, seed=0, bytes=0, chunk=65536, bulk=False)
        clients_left = self._clients_left
        self._widen(wish["bytes"])
        if wish["chunk"] > MAX_PAYLOAD:
            raise Refused(
                "bad-request", f"pieces of {wish['chunk']} bytes, at most {MAX_PAYLOAD} are allowed"
            )
        try:
            for piece in pieces(frame.request, wish["seed"], wish["bytes"], wish["chunk"], bulk=wish["bulk"]):
                if self._clients_left != clients_left:
                    return
                self._channel.send(piece)
        except ValueError as error:
            raise Refused("bad-request", str(error)) from error
        self._send(Kind.DONE, frame.request, as_json({"bytes": wish["bytes"], "wrong": None}))

    def _run(self, frame: Frame) -> None:
        wish = fields(frame, argv=[], env={}, cwd="/")
        if not wish["argv"] or not all(isinstance(word, str) for word in wish["argv"]):
            raise Refused("bad-request", "argv must be a list of strings, not empty")
        if frame.request in self._containers:
            raise Refused("bad-request", f"request {frame.request} is a running container")
        try:
            container = Container(wish["argv"], {**os.environ, **wish["env"]}, wish["cwd"])
        except OSError as error:
            raise Refused(errno_name(error), f"{wish['argv'][0]}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise Refused("bad-request", str(error)) from error
        with self._lock:
            self._containers[frame.request] = container
        self._client_left(False)  # seen before this was read; the reply to nobody would block
        self._reply(frame, {"pid": container.pid})
        follower = threading.Thread(target=self._follow, args=(frame.request, container), daemon=True)
        try:
            follower.start()
        except RuntimeError as error:  # no more threads
            self._disown(frame.request, container)
            container.release()
            raise Refused("EAGAIN", str(error)) from error

    def _follow(self, request: int, container: Container) -> None:
        def output(kind: Kind, data: bytes) -> None:
            if self._containers.get(request) is container:
                self._send(kind, request, data)

        try:
            end = container.follow(output)
            if self._disown(request, container):
                self._send(Kind.EXIT, request, as_json(end))
        except Gone:
            self._disown(request, container)

    def _disown(self, request: int, container: Container) -> bool:
        """Forget `container`; whether it still had its owner."""
        with self._lock:
            owned = self._containers.get(request) is container
            if owned:
                del self._containers[request]
            return owned

    def _container(self, frame: Frame) -> Container | None:
        with self._lock:
            return self._containers.get(frame.request)

    def _stdin(self, frame: Frame) -> None:
        if container := self._container(frame):  # what comes after its end is lost, as with any pipe
            container.feed(frame.payload, self._channel.fd)

    def _signal(self, frame: Frame) -> None:
        name = fields(frame, signal="")["signal"]
        container = self._container(frame)
        try:
            if container:
                container.send_signal(name)
        except ValueError as error:
            raise Refused("bad-request", str(error)) from error

    def _open_device(self, frame: Frame) -> None:
        wish = fields(frame, device="self")["device"]
        device = self._channel.device if wish == "self" else wish
        failed = "ENODEV" if device is None else try_open(device)
        self._reply(frame, {"opened": failed is None, "errno": failed, "device": device})

    def _make(self, frame: Frame, make: Callable[..., None], defaults: dict[str, Any]) -> None:
        if self._channel.device is not None:  # there is nobody to wait for, and no end of a client to see
            raise Refused("no-connection", f"{self._channel.device} is a serial port: it has no sockets")

        def tell(kind: Kind, answer: object) -> None:
            self._send(kind, frame.request, as_json(answer))

        try:
            make(fields(frame, **defaults), tell, self._channel.fd)
        except ValueError as error:
            raise Refused("bad-request", str(error)) from error
        except RuntimeError as error:  # no more threads
            raise Refused("EAGAIN", str(error)) from error

    def _facts(self, frame: Frame) -> None:
        self._reply(frame, self._agent_facts())
