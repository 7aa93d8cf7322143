"""xdist's session, with hosts that are replaced and items that are run once more.

It is the host's fault, not the system's under test, when the connection to its worker breaks, and when an
item fails while something is known to be wrong with the host itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import execnet
import pytest
from xdist.dsession import DSession
from xdist.remote import WorkerInfo
from xdist.workermanage import WorkerController

from harness.model.errors import HarnessError
from harness.plugin import evidence
from harness.plugin.rerun import Hosts, Replacing
from harness.plugin.rerunreport import Place, Reruns, Spoilt, Try, not_run, publish
from harness.plugin.rerunwork import Events, Work, outlive

_NO_WORKER = (OSError, EOFError, AssertionError, execnet.HostNotFound, execnet.RemoteError)
"""What execnet raises where a worker can't be started; an assertion is about the first byte from there."""


class Session(DSession):
    """xdist's own starts a lost worker on the same dead host; there is no hook for another.

    So this goes by xdist's internals: tests/unit/test_plugin_rerun.py has the digests of those it was written
    against. What it holds:

    * An item's reports are shown when the item has ended. So a try that does not count leaves no trace in
      pytest's counts, --maxfail and JUnit XML, whichever of its phases had passed.
    * A lost worker stays among xdist's active nodes until one is started in its place or its host is given
      up: xdist ends a session that has no active node.
    * New workers are started on the main thread, and others' events wait for those seconds: xdist's hooks are
      not for threads. Hosts are replaced on other threads.
    """

    def __init__(
        self,
        config: pytest.Config,
        hosts: Hosts,
        told: Reruns,
        most: int,
        alias: Callable[[execnet.XSpec], str],
    ) -> None:
        super().__init__(config)
        self._gone: set[WorkerController] = set()
        self.queue = Events(self._gone)
        self._hosts, self._told, self._alias_of = hosts, told, alias
        self._replacing = Replacing(hosts, most, self.queue.put)
        self._begun: dict[WorkerController, Try] = {}
        self._idle: list[WorkerController] = []

    def pytest_runtestloop(self) -> bool:
        """Run all; then tell what never ran, and what was reported of items that were interrupted."""
        try:
            super().pytest_runtestloop()
            self._tell_not_run()
        finally:
            for node, begun in self._begun.items():
                self._show(node, begun.reports)
            self._replacing.close()
        return True

    def loop_once(self) -> None:
        """Serve one event, then look whether there is somebody for what waits."""
        super().loop_once()
        if self.shouldstop or not self._is_useful:
            self._active_nodes.difference_update(self._replacing.release())
        elif (self._collects or self._work.waiting) and not self._is_coming:
            self._revive()

    def worker_workerready(self, node: WorkerController, workerinfo: WorkerInfo) -> None:
        """A worker has started."""
        outlive(node)
        super().worker_workerready(node, workerinfo)

    def worker_logstart(self, node: WorkerController, nodeid: str, location: Place) -> None:
        """An item begins."""
        self._begun[node] = Try(nodeid, location, [])
        super().worker_logstart(node, nodeid, location)

    def worker_testreport(self, node: WorkerController, rep: pytest.TestReport) -> None:
        """Keep it until its item has ended."""
        self._begun[node].reports.append(rep)

    def worker_runtest_protocol_complete(
        self, node: WorkerController, item_index: int, duration: float
    ) -> None:
        """An item has ended; it counts, unless it failed on a host that has trouble."""
        failed = any(report.failed for report in self._begun[node].reports)
        trouble = self._hosts.trouble(self._alias(node)) if failed else None
        if trouble is not None:
            self._lose(node, trouble)
        else:
            self._show(node, self._begun.pop(node).reports)
            super().worker_runtest_protocol_complete(node, item_index, duration)

    def worker_errordown(self, node: WorkerController, error: object | None) -> None:
        """The connection to a worker broke; or an exception ended it, which it would on another host too."""
        trouble = self._hosts.trouble(self._alias(node))
        lines = str(error).rstrip().splitlines() or [""]
        more = lines if len(lines) > 1 else []  # a traceback, which tells at its end what happened
        reason = "\n".join([f"its worker was lost: {lines[-1]}", *more])
        raised = isinstance(error, execnet.RemoteError)
        self._lose(node, trouble or reason, replace=trouble is not None or not raised)

    def worker_internal_error(self, node: WorkerController, formatted_error: str) -> None:
        """Pytest broke on a worker: on a host that is well this is a bug, which ends the run."""
        trouble = self._hosts.trouble(self._alias(node))
        if trouble is None:
            super().worker_internal_error(node, formatted_error)
        else:
            self._lose(node, trouble)

    def worker_workerfinished(self, node: WorkerController) -> None:
        """A worker has done all that it was given; or it refused its command line, as any other would."""
        if node.workeroutput["exitstatus"] == pytest.ExitCode.USAGE_ERROR:
            self._lose(node, "pytest refused its command line there", replace=False)
            return
        super().worker_workerfinished(node)
        if node not in self._gone:
            self._idle.append(node)

    def worker_collectionfinish(self, node: WorkerController, ids: Sequence[str]) -> None:
        """A worker is ready for items; they are told to it by number, so it must have found the same."""
        known = self._work.items
        if known is not None and list(ids) != known:
            found = f"it found {len(ids)} items that are not the {len(known)} of the first worker"
            self._lose(node, found, replace=False)
        else:
            super().worker_collectionfinish(node, ids)

    def worker_hostreplaced(self, alias: str, done: Future[None], seconds: float) -> None:
        """No worker's event but our own."""
        lost = self._replacing.end(alias, done)
        if error := done.exception():
            # whatever it is: the other hosts go on
            self._give_up(alias, lost, str(error) if isinstance(error, HarnessError) else repr(error))
            return
        self._tell(f"{alias} was replaced in {seconds:.1f} s")
        for node in lost:
            self._start(node)
        for node in self._work.workers:
            if self._alias(node) == alias and self._replacing.is_replaced(alias, node):
                self._lose(node, "its host was replaced, as another worker there was lost")

    @property
    def _work(self) -> Work:
        return Work(self.sched)

    @property
    def _collects(self) -> bool:
        """Whether no item was given out yet."""
        return self._work.items is None and not self.shuttingdown

    @property
    def _is_useful(self) -> bool:
        """Whether a new worker would find something to do."""
        return self._collects or self._work.has_more

    @property
    def _is_coming(self) -> bool:
        """Whether somebody takes what waits, now or later; who was told to shut down takes no more."""
        able = any(node not in self._gone and not node.shutting_down for node in self._active_nodes)
        return able or self._replacing.waited_for

    def _alias(self, node: WorkerController) -> str:
        return self._alias_of(node.gateway.spec)

    def _show(self, node: WorkerController, reports: Sequence[Any]) -> None:
        """Let an item's reports count."""
        for report in reports:
            self._told.mark(report)
            super().worker_testreport(node, report)

    def _tell(self, note: str) -> None:
        """Its first line now, all of it at the end."""
        self._told.notes.append(note)
        self._say(note.partition("\n")[0])

    def _say(self, line: str) -> None:
        """On a line of its own: without -v, letters stand before it."""
        self.report_line(line if self.config.option.verbose > 0 else f"\n{line}")

    def _lose(self, node: WorkerController, reason: str, *, replace: bool = True) -> None:
        """Do without a worker, dead or not: what it had goes to others, the item it was in once more."""
        alias = self._alias(node)
        self._gone.add(node)
        node.shutdown()  # so that the scheduler gives it nothing
        first_line = reason.partition("\n")[0]
        self.config.hook.pytest_testnodedown(node=node, error=f"{alias}: {first_line}")
        begun = self._begun.pop(node, None)
        settled = begun is not None and self._settle(node, begun, reason)
        if node in self._work.workers:
            self._work.take_back(node, but_first=settled)
        if self._work.waiting and not self.shouldstop:
            self.shuttingdown = False
        node.gateway.exit()
        if not replace:
            self._give_up(alias, [node], reason)
        elif self._replacing.is_replaced(alias, node):
            self._start(node)
        else:
            self._replace(alias, node)

    def _settle(self, node: WorkerController, begun: Try, reason: str) -> bool:
        """Tell what became of the item that a lost worker was in; whether it is done with."""
        reports = begun.reports
        if not begun.has_passed:
            spoilt = Spoilt(begun, self._alias(node), reason)
            if begun.item not in self._told.made and not self.shouldstop:
                self._told.made[begun.item] = spoilt
                told = spoilt.report()
                evidence.passed_on(reports, told)
                publish(self.config, node, told)
                return False
            reports = self._told.error(spoilt)
            evidence.passed_on(begun.reports, reports[-1])
        self._show(node, reports)
        return True

    def _replace(self, alias: str, node: WorkerController) -> None:
        """Have a host replaced, then a worker started where that one was; if it is of use."""
        if self.shouldstop or not self._is_useful:
            self._active_nodes.discard(node)
            return
        try:
            self._replacing.begin(alias, node)
        except HarnessError as error:
            self._give_up(alias, [node], str(error))
        else:
            self._active_nodes.add(node)
            self._say(f"{alias}: being replaced")

    def _start(self, node: WorkerController) -> None:
        """Start a worker where that one was, if that is of use."""
        if self.shouldstop or not self._is_useful:
            self._active_nodes.discard(node)
            return
        alias = self._alias(node)
        try:
            worker = self._clone_node(node)
        except _NO_WORKER as error:
            self._tell(f"{alias}: no worker can be started there: {error!r}")
            self._replace(alias, node)
        else:
            self._replacing.born(alias, worker)
            self._active_nodes.discard(node)

    def _give_up(self, alias: str, lost: list[WorkerController], why: str) -> None:
        """Go on without these workers."""
        self._tell(f"{alias} was not replaced: {why}")
        self._active_nodes.difference_update(lost)
        self._work.expect_fewer(len(lost))

    def _revive(self) -> None:
        """Items wait, and all workers were told to shut down: start new ones where some have finished."""
        count = len(self._work.waiting)
        finished, self._idle[:count] = self._idle[:count], []
        for node in finished:
            try:
                self._replacing.take()
            except HarnessError as error:
                self._give_up(self._alias(node), [], str(error))
                break
            node.gateway.exit()
            self._start(node)
        if not self._active_nodes:
            self.triggershutdown()

    def _tell_not_run(self) -> None:
        """If no host was left: report each item that waits for one."""
        work = self._work
        if self._gone and (work.waiting or work.items is None):
            count = f"{len(work.waiting)} of {len(work.items)} items" if work.items else "all items"
            self._told.end = f"no host is left: {count} were not run"
            for item in work.waiting:
                for report in not_run(item, "no host was left"):
                    self._told.mark(report)
                    self.config.hook.pytest_runtest_logreport(report=report)
