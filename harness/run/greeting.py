"""The first words with a pod's agent: that it is there, that it is ours, and who its machine is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from typing import Any

from harness.guest.client import AgentClient, Hello, StaleReply
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline, until
from harness.model.errors import InfrastructureError, SystemFailure
from harness.model.link import Endpoint, Link
from harness.run.beside import Beside
from harness.vm.machine import Machine

_HELLO_SECONDS = 20.0
_DRAIN_SECONDS = 60.0


def first(links: frozenset[Link]) -> Link:
    """The link by which a pod is greeted: vsock if it has it, else any."""
    return next((link for link in sorted(links) if link.is_vsock), min(links))


async def greet(
    machine: Machine,
    link: Link,
    agent: str,
    beside: Beside | None = None,
    *,
    clone: bool = False,
    cid: int | None = None,
) -> Hello:
    """The agent's hello over `link`; a clone is given a boot id of its own, and the time.

    With `cid`, it is asked again until that is the guest's own.

    `beside` is the process that the link goes through, if it does: a proxy is the one to ask.
    A refused connection is tried again until the deadline: right after a vsock device appeared in the
    guest, nothing tells the host when it is ready, nor does anything when a proxy listens.

    :raise SystemFailure: another agent answers than `agent`, the hash of the injected one; `beside` ended.
    """
    deadline = Deadline(_HELLO_SECONDS * slowness())
    endpoint = beside.endpoint if beside and link.is_proxied else machine.endpoint(link)
    ended = threading.Event()
    boot_id = str(uuid.uuid4()) if clone else None

    def ask() -> Hello | None:
        if ended.is_set():
            raise InfrastructureError("the pod ended before its agent answered")
        with contextlib.suppress(OSError):
            hello = _hello(endpoint, boot_id, deadline)
            return hello if cid in (None, hello.cid) else None
        return None

    asked = asyncio.ensure_future(asyncio.to_thread(until, ask, deadline, f"the agent's hello over {link}"))
    ends: list[asyncio.Future[Any]] = [machine.died]
    if beside:
        ends.append(asyncio.ensure_future(beside.ended()))
    try:
        await asyncio.wait([asked, *ends], return_when=asyncio.FIRST_COMPLETED)
        if not asked.done() or asked.exception():
            machine.check()
            if beside:
                await beside.check()
    finally:
        ended.set()
        asked.add_done_callback(lambda over: over.cancelled() or over.exception())  # what it says is known
        for end in ends:
            end.cancel()
    hello = await asked
    if hello.agent != agent:
        raise SystemFailure(
            f"the guest runs another agent than the injected one: {hello.agent[:12]}, not {agent[:12]}",
            hint="is the initramfs segment complete? see console.log",
        )
    return hello


def _hello(endpoint: Endpoint, boot_id: str | None, deadline: Deadline) -> Hello:
    """Ask once; with `boot_id`, tell it that this is its own, and the time.

    :raise OSError: the connection was refused.
    """
    with connect(endpoint) as sock:
        client = AgentClient(sock)
        if boot_id is None:
            return client.hello(deadline=deadline)
        return client.cloned(boot_id, time.time_ns(), deadline=deadline)


def drain(endpoint: Endpoint) -> None:
    """Take from a serial port what the clients of a plan before left on it; on vsock there is nothing.

    The port's requests are done in order, so when one of ours is answered, all before are.

    :raise DeadlinePassed: there was no end of it.
    """

    def answered(agent: AgentClient) -> bool:
        try:
            agent.hello(sole=True, deadline=Deadline(_HELLO_SECONDS * slowness()))
        except StaleReply:
            return False
        return True

    with AgentClient(connect(endpoint)) as agent:
        until(
            lambda: answered(agent),
            Deadline(_DRAIN_SECONDS * slowness()),
            "a port without stale replies",
            every=0,
        )
