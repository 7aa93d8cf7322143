"""What dies, and what of it the trace says: clients, agents, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.agent.decoder import Decoder
from harness.agent.wire import Frame, Kind, encode
from harness.model.deadline import Deadline, until, until_async
from harness.model.errors import DeadlinePassed
from harness.model.link import Endpoint, Link
from harness.model.plan import Connection
from harness.model.steps import Echo, Ping, Receive
from harness.model.trace import BY_SIGKILL, Event, What
from harness.run import patience
from harness.run.coordinator import PlanOverdue, run_plan
from harness.run.nursery import Nursery
from tests.unit.agents import unix_agent
from tests.unit.hangs import HANGS
from tests.unit.processes import alive
from tests.unit.running import (
    check,
    endpoint,
    ends,
    group,
    kill,
    of,
    only,
    pids,
    plan,
    run,
)


@contextlib.contextmanager
def server(tmp_path: Path, serve: Callable[[socket.socket], None]) -> Iterator[Path]:
    """A listener with `serve` for its first connection, in a thread; it keeps its connection to the end."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen(8)

        def accept() -> None:
            with contextlib.suppress(OSError):
                serve(stack.enter_context(listener.accept()[0]))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield tmp_path / "s"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def echoes(sock: socket.socket, count: int, change: Callable[[Frame], Frame] = lambda frame: frame) -> None:
    """Answer `count` echoes, then no more."""
    decoder = Decoder()
    while count > 0 and (data := sock.recv(65536)):
        for frame in decoder.feed(data):
            assert isinstance(frame, Frame)
            sock.sendall(encode(change(Frame(Kind.DATA, frame.request, frame.payload))))
            count -= 1


def killer(client: str, moment: What) -> Callable[[Event], None]:
    """Kills `client` at its first event of that kind, from outside, as another program would."""
    running: dict[str, int] = {}

    def on_event(event: Event) -> None:
        if event.what is What.STARTED:
            running[event.client] = int(event.detail["pid"] or 0)
        if event.client == client and event.what is moment and client in running:
            kill(running.pop(client))  # once: more events of that kind may be on their way

    return on_event


@pytest.mark.parametrize(("moment", "doing"), [(What.HOLDING, "holding"), (What.PROGRESS, "receive")])
def test_a_client_killed_from_outside(nursery: Nursery, moment: What, doing: str) -> None:
    groups = (group("client", Receive(bytes=64 << 20)), group("other", Ping(times=20), count=3))
    if moment is What.HOLDING:
        groups = (group("client", Ping()), group("other", Receive(bytes=4 << 20), count=3))
    with unix_agent() as path:
        trace = run(plan(*groups), path, nursery, on_event=killer("client/0", moment))
    lost = only(trace, "client/0", What.LOST)
    assert lost.detail == {"process": BY_SIGKILL, "doing": doing}
    assert ends(trace, "other") == {"served": 3}


def test_a_killed_holder_on_a_serial_port_makes_way(nursery: Nursery, tmp_path: Path) -> None:
    after = plan(group("first", Ping()), group("next", Ping(), after="first"))
    with unix_agent() as path:
        trace = run(after, path, nursery, on_event=killer("first/0", What.ASKED))
    assert ends(trace, "first") == {"lost": 1}
    assert ends(trace, "next") == {"served": 1}


@pytest.mark.parametrize("answered", [0, 2])
def test_the_connections_end_within_a_step(nursery: Nursery, tmp_path: Path, answered: int) -> None:
    def serve(sock: socket.socket) -> None:
        echoes(sock, answered)
        sock.recv(1)
        sock.close()

    with server(tmp_path, serve) as path:
        trace = run(plan(group("client", Ping(times=3))), path, nursery)
    assert only(trace, "client/0", What.LOST).detail["errno"] in {"eof", "ECONNRESET"}
    assert of(trace, "client/0")[-1].what is What.LOST
    assert of(trace, "client/0")[-1].op == "ping"


def test_nobody_listens(nursery: Nursery, tmp_path: Path) -> None:
    trace = run(plan(group("client", Ping(), count=2)), tmp_path / "missing", nursery)
    assert ends(trace) == {"refused": 2}
    assert only(trace, "client/1", What.REFUSED).detail["errno"] == "ENOENT"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda frame: frame._replace(payload=frame.payload[:-1] + b"?"), What.WRONG),
        (lambda frame: frame._replace(kind=Kind.REPLY), What.WRONG),
        (lambda frame: frame._replace(request=frame.request ^ 0x40000000), What.STALE),
    ],
)
def test_a_wrong_answer_is_seen(
    nursery: Nursery, tmp_path: Path, change: Callable[[Frame], Frame], what: What
) -> None:
    with server(tmp_path, lambda sock: echoes(sock, 1, change)) as path:
        trace = run(plan(group("client", Echo(bytes=100), Ping())), path, nursery)
    assert only(trace, "client/0", what).step == 0
    assert [event.what for event in of(trace, "client/0")][-2:] == [what, What.LEFT]


def test_a_mute_system_is_called_hung_by_those_who_hold(nursery: Nursery, tmp_path: Path) -> None:
    """It answered one client once and then nothing to anybody: that is no serial port."""
    groups = (group("served", Ping()), group("late", Ping(), after="served"))
    with server(tmp_path, lambda sock: echoes(sock, 1)) as path:
        trace = run(plan(*groups), path, nursery, slowness=0.03)
    assert ends(trace) == {"lost": 1, "waiting": 1}
    assert "no answer" in str(only(trace, "served/0", What.LOST).detail["error"])


def test_a_system_that_never_answers_is_given_up(nursery: Nursery, tmp_path: Path) -> None:
    with server(tmp_path, lambda sock: None) as path:
        trace = run(plan(group("client", Ping(), count=2)), path, nursery, slowness=0.03)
    assert ends(trace) == {"waiting": 2}


def test_a_shared_connection_without_an_answer_is_wrong(nursery: Nursery, tmp_path: Path) -> None:
    shared = plan(group("writer", Ping(), count=2, connection=Connection.SHARED))
    with server(tmp_path, lambda sock: None) as path:
        trace = run(shared, path, nursery, slowness=0.05)
    for client in ("writer/0", "writer/1"):
        assert only(trace, client, What.WRONG).detail == {
            "expected": "a reply to its own ping",
            "seen": "nothing",
        }
        assert of(trace, client)[-1].what is What.ENDED


def at_work(seen: Sequence[Event], count: int) -> bool:
    """Whether so many clients have asked for something."""
    return len({event.client for event in seen if event.what is What.ASKED}) == count


class WhenAtWork(Deadline):
    """Passes once all clients are at work."""

    def __init__(self, seen: Sequence[Event], count: int) -> None:
        super().__init__(0.5)
        self._seen, self._count = seen, count

    def remaining(self) -> float | None:
        return None

    @property
    def expired(self) -> bool:
        return at_work(self._seen, self._count)


def test_the_deadline_ends_all_and_brings_the_trace(nursery: Nursery, tmp_path: Path) -> None:
    late = plan(group("client", Ping(), count=2), group("after", Ping(), after="client"))
    seen: list[Event] = []
    ending = run_plan(
        late,
        endpoint(tmp_path / "s"),
        deadline=WhenAtWork(seen, 2),
        slowness=1.0,
        on_event=seen.append,
        nursery=nursery,
    )
    with server(tmp_path, lambda sock: None):
        with pytest.raises(PlanOverdue, match=r"unit: clients not done within 0\.5 s") as caught:
            asyncio.run(ending)
    trace = caught.value.trace
    assert isinstance(caught.value, DeadlinePassed)
    check(trace)
    assert ends(trace) == {"waiting": 3}
    assert only(trace, "client/0", What.ENDED).detail == {"doing": "ping"}
    assert only(trace, "after/0", What.ENDED).detail == {"doing": "not started"}


def test_cancelled_it_leaves_nobody(nursery: Nursery, tmp_path: Path) -> None:
    seen: list[Event] = []

    async def impatient(path: Path) -> None:
        running = asyncio.ensure_future(
            run_plan(
                plan(group("client", Ping(), count=3)),
                endpoint(path),
                deadline=Deadline(None),
                slowness=1.0,
                on_event=seen.append,
                nursery=nursery,
            )
        )
        await until_async(lambda: at_work(seen, 3), Deadline(HANGS), "all at work", every=0.01)
        running.cancel()
        await running

    with server(tmp_path, lambda sock: None) as path, pytest.raises(asyncio.CancelledError):
        asyncio.run(impatient(path))
    assert len(pids(tuple(seen))) == 3
    assert not [pid for pid in pids(tuple(seen)) if alive(pid)]


def test_a_host_that_was_asleep_makes_nobody_mute(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes from one look of the coordinator to the next; then the answer comes."""
    slept = [0.0]
    awake = threading.Event()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(slept))
    monkeypatch.setattr(patience, "time", clock)

    def sleep(event: Event) -> None:
        if event.what is What.ASKED:
            slept.append(3600.0)
            awake.set()

    def serve(sock: socket.socket) -> None:
        awake.wait(HANGS)
        echoes(sock, 1)

    with server(tmp_path, serve) as path:
        trace = run(plan(group("client", Ping())), path, nursery, on_event=sleep)
    assert ends(trace) == {"served": 1}


def test_what_a_listener_raises_comes_through(nursery: Nursery, tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(plan(group("client", Ping())), tmp_path / "missing", nursery, on_event=on_event)


def test_a_mistake_in_the_clients_own_code_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Here: an endpoint without its address."""
    trace = run(plan(group("client", Ping())), Endpoint(link=Link.VIRTIO_SERIAL))
    told = str(only(trace, "client/0", What.LOST).detail["process"])
    assert told.startswith("UsageError: virtio-serial endpoint without the path")
    said = ""

    def traced() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "Traceback" in said

    until(traced, Deadline(HANGS), "the traceback on stderr")


def descriptors() -> list[str]:
    return sorted(fd.name for fd in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open(nursery: Nursery) -> None:
    with unix_agent() as path:
        before = descriptors()
        run(plan(group("client", Ping(), count=3, connection=Connection.SHARED)), path, nursery, slowness=0.1)
        run(plan(group("client", Ping(), count=3)), path)
        assert descriptors() == before
