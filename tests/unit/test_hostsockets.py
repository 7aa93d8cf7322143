"""The host's vsock sockets as evidence of an item that failed: when they are looked at, and by what."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.model.link import Link
from harness.model.steps import Ping
from harness.model.trace import Event, What
from harness.run.hostsockets import ARGV, KEPT_FOR, NAME, Started, kept
from harness.run.nursery import Nursery
from tests.unit.processes import alive
from tests.unit.running import BRISK, endpoint, group, pids, plan, run


class Ss:
    """In its place: prints which look it was, and knows what was waited for it, and whether it was ended."""

    def __init__(self, waiting: Callable[[], None] = lambda: None) -> None:
        self.looks = 0
        self.waited: list[float] = []
        self.closed = 0
        self._waiting = waiting

    def __call__(self, argv: Sequence[str]) -> Ss:
        assert argv == ARGV
        self.looks += 1
        return self

    def wait(self, seconds: float) -> bool:
        self._waiting()
        self.waited.append(seconds)
        return False

    def text(self) -> str:
        return f"look {self.looks}  \n"

    def close(self) -> None:
        self.closed += 1


def told(*events: tuple[str, What]) -> list[Event]:
    return [Event(at=float(at), client=client, what=what) for at, (client, what) in enumerate(events)]


def fail(folder: Path, events: list[Event], ss: Ss, link: Link = Link.VSOCK) -> None:
    """All of an item, which fails."""

    def item() -> None:
        with kept(folder, link, ss) as saw:
            for event in events:
                saw(event)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        item()


def test_of_an_item_that_passes_nothing_is_written(tmp_path: Path) -> None:
    ss = Ss()
    with kept(tmp_path, Link.VSOCK, ss) as saw:
        for event in told(("a/0", What.HOLDING), ("a/0", What.ENDED)):
            saw(event)
    assert (ss.looks, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("what", [What.REFUSED, What.WRONG, What.STALE, What.LOST, What.ENDED])
def test_they_are_looked_at_when_a_client_first_has_trouble(tmp_path: Path, what: What) -> None:
    ss = Ss()
    events = told(("a/0", What.HOLDING), ("b/0", What.ASKED), ("b/0", what), ("b/1", What.LOST))
    fail(tmp_path, events, ss)
    assert ss.looks == 1
    first = f"$ ss -anp --vsock  # b/0 {what}, at 2.000000 of the trace"
    assert (tmp_path / NAME).read_text() == f"{first}\nlook 1\n"
    assert ss.closed == 1


@pytest.mark.parametrize(
    ("what", "detail", "waits"),
    [
        (What.REFUSED, {"errno": "ECONNRESET"}, False),
        (What.WRONG, {}, False),
        (What.STALE, {}, False),
        (What.LOST, {"errno": "ECONNRESET"}, False),
        (What.LOST, {"process": "exited with 1"}, False),
        (What.LOST, {"error": "no answer to a round trip while holding"}, True),
        (What.ENDED, {"doing": "ping"}, True),
    ],
)
def test_only_who_is_killed_next_waits_for_it(
    tmp_path: Path, what: What, detail: dict[str, str | int | float | bool | None], waits: bool
) -> None:
    ss = Ss()
    with kept(tmp_path, Link.VSOCK, ss) as saw:
        for client in ("a/0", "a/1"):
            saw(Event(at=1.0, client=client, what=what, detail=detail))
    assert (ss.looks, ss.waited, ss.closed) == (1, [KEPT_FOR] if waits else [], 1)


def test_who_is_killed_waits_for_a_look_that_has_begun(tmp_path: Path) -> None:
    ss = Ss()
    with kept(tmp_path, Link.VSOCK, ss) as saw:
        for event in told(("a/0", What.REFUSED), ("b/0", What.ENDED)):
            saw(event)
    assert (ss.looks, ss.waited) == (1, [KEPT_FOR])


def test_a_client_that_the_fault_kills_is_no_trouble(tmp_path: Path) -> None:
    died = {"process": "killed by SIGKILL", "doing": "meet-fault"}
    ss = Ss()
    with kept(tmp_path, Link.VSOCK, ss) as saw:
        saw(Event(at=1.0, client="victim/0", what=What.LOST, detail=dict(died)))
    assert ss.looks == 0


def test_where_no_client_has_any_they_are_looked_at_in_the_end(tmp_path: Path) -> None:
    fail(tmp_path, told(("a/0", What.HOLDING), ("a/0", What.ENDED)), Ss())
    assert (tmp_path / NAME).read_text() == "$ ss -anp --vsock  # all clients had ended\nlook 1\n"


@pytest.mark.parametrize("link", [link for link in Link if link is not Link.VSOCK])
def test_on_other_links_the_host_has_none(tmp_path: Path, link: Link) -> None:
    ss = Ss()
    fail(tmp_path, told(("a/0", What.LOST)), ss, link)
    assert (ss.looks, list(tmp_path.iterdir())) == (0, [])


def test_who_waits_is_still_there_when_they_are_looked_at(tmp_path: Path, nursery: Nursery) -> None:
    seen: list[Event] = []
    there: list[bool] = []

    def look() -> None:
        there.extend(alive(pid) for pid in pids(tuple(seen)))

    def on_event(event: Event) -> None:
        seen.append(event)
        saw(event)

    with socket.socket(socket.AF_UNIX) as mute, kept(tmp_path, Link.VSOCK, Ss(look)) as saw:
        mute.bind(str(tmp_path / "s"))
        mute.listen(8)
        what = plan(group("client", Ping(), count=2))
        run(what, endpoint(tmp_path / "s"), nursery, on_event=on_event, slowness=BRISK)
    assert there == [True, True]


def test_what_keeps_it_from_being_written_is_told_beside_what_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught, kept(tmp_path / "missing", Link.VSOCK, Ss()):
        raise ZeroDivisionError
    assert caught.value.__notes__ == [
        f"{tmp_path}/missing/{NAME} can't be written: No such file or directory"
    ]


@pytest.fixture
def started() -> Iterator[Callable[..., Started]]:
    with contextlib.ExitStack() as stack:
        yield lambda *argv: stack.enter_context(contextlib.closing(Started(argv)))


def test_a_host_without_it_says_so_in_a_line(started: Callable[..., Started]) -> None:
    look = started("there-is-no-such-ss")
    assert look.wait(0)
    assert look.text() == "there-is-no-such-ss can't be run here: No such file or directory"


def test_what_it_says_is_told_and_how_it_failed(started: Callable[..., Started]) -> None:
    words = "import sys; print('Netid'); print('no', file=sys.stderr); sys.exit(3)"
    printed = started(sys.executable, "-c", words).text(100)
    assert set(printed.splitlines()) == {"Netid", "no", f"{sys.executable} exited with 3"}


def test_it_says_more_than_a_pipe_holds_though_nobody_reads(started: Callable[..., Started]) -> None:
    look = started(sys.executable, "-c", "print('x' * (1 << 20))")
    assert look.wait(100)
    assert len(look.text()) == (1 << 20) + 1


def test_it_is_not_waited_for_for_ever() -> None:
    look = Started(["sleep", "1000"])
    assert not look.wait(0)
    assert look.text(0.05) == "sleep was not done after 0.05 s"
    assert look._process is not None
    assert alive(look._process.pid)
    look.close()
    assert not alive(look._process.pid)
