"""What a clone is told of itself; what it does is seen in real pods (tests/vm)."""

from __future__ import annotations

import socket
import time

import pytest

from harness.agent import identity
from harness.guest.client import AgentClient
from harness.guest.errors import AgentError
from tests.unit.agents import unix_agent


@pytest.mark.parametrize(
    "word", ["", "1", "2E1160A0-ED5B-4153-93E8-923C8127FFE8", "x" * 36, "../../etc/passwd"]
)
def test_only_a_uuid_is_a_boot_id_and_nothing_is_done_otherwise(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(time, "clock_settime_ns", lambda *given: done.append(given))
    with pytest.raises(ValueError, match="no UUID"):
        identity.adopt(word, 1)
    assert done == []


def test_an_agent_on_a_developers_machine_leaves_it_alone() -> None:
    with unix_agent() as path, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        with AgentClient(sock) as client, pytest.raises(AgentError, match="not-in-guest"):
            client.cloned("2e1160a0-ed5b-4153-93e8-923c8127ffe8", 1)
