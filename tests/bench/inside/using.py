"""A short use of a pod over vsock: data both ways, a container, several clients, one that just goes."""

from __future__ import annotations

import contextlib
import random

from harness.guest.client import AgentClient
from harness.host.speed import slowness
from harness.link.connect import KERNEL_TIMEOUT, connect
from harness.model.deadline import Deadline
from harness.model.link import Endpoint


def use(endpoint: Endpoint, chance: random.Random) -> None:
    """Raises what a client of the harness raises when something is wrong."""
    slow = slowness()
    soon = Deadline(60 * slow)
    with contextlib.ExitStack() as stack:

        def client() -> AgentClient:
            sock = connect(endpoint, vsock_timeout=KERNEL_TIMEOUT * slow)
            return stack.enter_context(AgentClient(sock))

        clients = [client() for _ in range(chance.randint(1, 8))]
        for agent in clients:
            agent.echo(chance.randbytes(chance.randint(0, 20_000)), deadline=soon)
        agent = chance.choice(clients)
        done = agent.run(["sh", "-c", "cat; exit 7"], stdin=b"in", deadline=soon)
        assert (done.stdout, done.code) == (b"in", 7)
        agent.send(chance.randint(0, 99), chance.randint(0, 300_000), deadline=soon)
        agent.receive(chance.randint(0, 99), chance.randint(0, 300_000), deadline=soon)
        leaver = client()
        leaver.start(["sleep", "1000"], deadline=soon)
        leaver.close()
