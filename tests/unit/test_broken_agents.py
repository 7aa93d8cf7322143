"""For each claim about an agent's clients: a scenario file's own clients, and a real agent that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.guest.client import AgentClient
from harness.judge import judge
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.link import Endpoint, Link
from harness.run.meeting import After
from harness.run.nursery import Nursery
from tests.unit import broken
from tests.unit.agents import serial_like_agent, unix_agent
from tests.unit.hangs import HANGS
from tests.unit.meetings import Fake, told
from tests.unit.running import run
from tests.unit.traces import plan

Started = Callable[[str], AbstractContextManager[Path]]


def of_vsock(words: str) -> AbstractContextManager[Path]:
    """Serves many; what it is asked to dial are sockets beside its own, as on hybrid-vsock."""
    return unix_agent(words)


def of_port(words: str) -> AbstractContextManager[Path]:
    return serial_like_agent("port", words)


CASES: list[tuple[str, Link, Started, str, str]] = [
    (
        "serial-portable",
        Link.VIRTIO_SERIAL,
        of_port,
        broken.DAMAGES_WHAT_IT_SENDS,
        "served 0 of 1, expected 1; first: client/0 read wrong data in step 3 (receive)",
    ),
    ("serial-portable", Link.VSOCK, of_vsock, broken.DAMAGES_WHAT_IT_SENDS, "served 0 of 2, expected 2"),
    (
        "serial-stale-reply",
        Link.VIRTIO_SERIAL,
        of_port,
        broken.NEVER_ANSWERS_LATE,
        "group next: served 1 of 1, expected 0",
    ),
    (
        "serial-stale-reply",
        Link.VSOCK,
        of_vsock,
        broken.ANSWERS_WHOEVER_IS_THERE,
        ": stale ",
    ),
    ("multiple-clients-8", Link.VSOCK, of_vsock, broken.SERVES_ONE_AT_A_TIME, "of 8, expected 8; first: "),
    ("pod-diagram", Link.VSOCK, of_vsock, broken.GIVES_ALL_THE_FIRST_STDIN, "garbled 1 of 2, expected 0"),
    (
        "pod-diagram-one-leaves",
        Link.VSOCK,
        of_vsock,
        broken.KEEPS_CONTAINERS,
        "expected 1 containers running, seen 3",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.KEEPS_CONTAINERS,
        "expected 1 containers running, seen 3",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.REMOVES_CONTAINERS_LATE,
        "the containers of victim/1 were gone after ",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.SEES_LARGE_DATA_WRONG,
        "group sending: served 0 of 2, expected 2; first: sending/",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.FORGETS_WHAT_CAME,
        "group sending: served 0 of 2, expected 2; first: sending/",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.TELLS_OTHERS,
        "read a reply to a request it never made in step ",
    ),
    (
        "reliability-shim-killed",
        Link.VSOCK,
        of_vsock,
        broken.CUTS_ALL_OFF_AT_A_DEATH,
        "fact sees of idle/0 is eof, expected nothing",
    ),
]


def differences(scenario: str, link: Link, path: Path, nursery: Nursery) -> tuple[str, ...]:
    """What the judge says of the scenario's own clients at the agent; a fault is done to none but them."""
    on_link = plan(scenario, link)
    # clients of a proxy's endpoint connect again and again as those of vsock do, whose endpoints have no path
    many = link.is_vsock or link.is_proxied
    endpoint = Endpoint(link=Link.SERIAL_PROXY if many else link, path=str(path))

    def asked() -> After:
        with AgentClient(connect(endpoint)) as client:
            return told(client.facts(deadline=Deadline(HANGS)))

    deed = Fake(after=asked) if on_link.fault else None
    return judge(on_link, run(on_link, endpoint, nursery, deed=deed)).differences


@pytest.mark.parametrize(("scenario", "link", "started", "words", "says"), CASES)
def test_a_broken_agent_turns_it_red(
    nursery: Nursery, scenario: str, link: Link, started: Started, words: str, says: str
) -> None:
    with started(words) as path:
        found = differences(scenario, link, path, nursery)
    assert says in "\n".join(found)


@pytest.mark.parametrize(("scenario", "link", "started"), list(dict.fromkeys(case[:3] for case in CASES)))
def test_a_whole_agent_passes(nursery: Nursery, scenario: str, link: Link, started: Started) -> None:
    with started("") as path:
        assert differences(scenario, link, path, nursery) == ()
