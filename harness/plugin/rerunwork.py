"""What of xdist has to be told that a worker is lost: its queue of events, its schedulers."""

from __future__ import annotations

import contextlib
import queue
from typing import Any

from xdist.scheduler import LoadScheduling, WorkStealingScheduling
from xdist.workermanage import WorkerController

DISTS = ("load", "worksteal")
"""xdist's ways to distribute (`--dist`) that let an item be given out again."""

_KEPT = 2
"""Of the items that a worker was given, those that nobody takes from it."""


def outlive(worker: WorkerController) -> None:
    """Let what is sent to a worker be lost when it has died; its last event, which tells that, is on its way.

    xdist's own ends the session there with an OSError, except for the command to shut down.
    """
    send = worker.sendcommand

    def send_if_alive(name: str, **details: object) -> None:
        with contextlib.suppress(OSError):
            send(name, **details)

    worker.sendcommand = send_if_alive  # type: ignore[method-assign]


class Events(queue.Queue[tuple[str, dict[str, Any]]]):
    """What workers tell, but for those that are lost: their items were given out again."""

    def __init__(self, gone: set[WorkerController]) -> None:
        super().__init__()
        self._gone = gone

    def get(self, block: bool = True, timeout: float | None = None) -> tuple[str, dict[str, Any]]:
        """The next that counts; after one that does not, `timeout` begins anew."""
        while True:
            name, details = super().get(block, timeout)
            if details.get("node") not in self._gone:
                return name, details


class Work:
    """One of the two schedulers. Both have, as documented attributes, `pending` and `node2pending`."""

    def __init__(self, scheduler: object) -> None:
        assert isinstance(scheduler, LoadScheduling | WorkStealingScheduling), scheduler
        self._scheduler = scheduler

    @property
    def items(self) -> list[str] | None:
        """All node ids of the run; None until items are first given out."""
        return self._scheduler.collection

    @property
    def waiting(self) -> list[str]:
        """The items that no worker was given."""
        return [(self.items or [])[number] for number in self._scheduler.pending]

    @property
    def workers(self) -> list[WorkerController]:
        """Who may be given items."""
        return self._scheduler.nodes

    @property
    def has_more(self) -> bool:
        """Whether there is something for one worker more."""
        given = self._scheduler.node2pending.values()
        return bool(self._scheduler.pending) or any(len(items) > _KEPT for items in given)

    def take_back(self, worker: WorkerController, *, but_first: bool) -> None:
        """Put what a lost worker had before all that waits, and give it out; its first item may be done."""
        scheduler = self._scheduler
        items = scheduler.node2pending[worker]
        scheduler.pending[:0] = items[1:] if but_first else items
        items.clear()  # else the scheduler keeps the first one back
        scheduler.remove_node(worker)
        if scheduler.collection is None:
            scheduler.node2collection.pop(worker, None)
        else:
            scheduler.schedule()

    def expect_fewer(self, count: int) -> None:
        """So many workers will never come; xdist gives nothing out before all have said what they found."""
        scheduler = self._scheduler
        if scheduler.collection is None:
            scheduler.numnodes -= count
            if scheduler.nodes and scheduler.collection_is_completed:
                scheduler.schedule()
