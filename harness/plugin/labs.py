"""The labs of one run: restored from a saved one or booted, each under an alias, replaced when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
import types
from collections.abc import Iterator
from pathlib import Path

from harness.host.runfolder import RunFolder
from harness.lab import background, deploy, lab, saved
from harness.model.errors import HarnessError, InfrastructureError
from harness.model.progress import Progress
from harness.model.spec import Accel
from harness.run.states import lab_identity
from harness.vm.console import Console

_log = logging.getLogger(__name__)


class Labs:
    """Starts labs of one `wish`. `source` is the saved lab to go on from, None to boot.

    `notes` gets what a user should know of what went otherwise than usual. `start` may be called from several
    threads, for different aliases.
    """

    def __init__(
        self,
        wish: lab.Wish,
        source: Path | None,
        folder: RunFolder,
        logs: Path,
        notes: list[str],
        layout: deploy.Layout = deploy.LAB,
    ) -> None:
        self._wish = wish
        self._layout = layout
        self._notes = notes
        self._source = source
        self._folder = folder
        self._logs = logs
        self._stacks: dict[str, contextlib.ExitStack] = {}
        self._tries: dict[str, int] = {}
        self._pidfds: dict[str, int] = {}
        self._lock = threading.Lock()
        """Of the descriptors: one is looked at while another thread may close it."""
        self._coming: dict[str, background.Halt] = {}
        """Of labs that do not answer yet."""
        self._over = False  # the run ends; who still starts one is not waited for
        self.unrestorable = ""
        """Why a saved lab could not be restored; then all further ones are booted."""

    @property
    def restores(self) -> bool:
        """Whether labs are restored from a saved one, and not booted."""
        return self._source is not None and not self.unrestorable

    def start(self, alias: str) -> deploy.Remote:
        """A lab ready for a worker. It lasts until `end` or the next `start` of the same alias.

        :raise HostUnfit, InfrastructureError: it does not come up, as `lab.up`.
        """
        self._tries[alias] = self._tries.get(alias, 0) + 1
        return self._restored(alias, self._source) if self.restores else self._up(alias, None)

    def _restored(self, alias: str, source: Path | None) -> deploy.Remote:
        """A lab from the saved one; or a booted one, if that can't be had.

        The saved one is only at fault if it did not come to answer, and a booted lab does: else the disk may
        be full, or this machine too busy.
        """
        try:
            return self._up(alias, source)
        except InfrastructureError as error:
            if self._over:
                raise
            answered = alias in self._pidfds
            self.end(alias)
            self._tries[alias] += 1
            try:
                remote = self._up(alias, None)
            except HarnessError as second:
                second.add_note(f"nor could a saved one be used: {error.summary}")
                raise
            if answered:
                self._notes.append(f"lab: {alias} was restored, was no use, and booted: {error.summary}")
            else:
                self.unrestorable = error.summary
            return remote

    def _up(self, alias: str, source: Path | None) -> deploy.Remote:
        stack = self._stacks[alias] = contextlib.ExitStack()
        halt = self._coming[alias] = background.Halt()
        if self._over:
            halt.say()
        logs = self._log(alias)
        try:
            coming = lab.up(self._wish, self._folder, name=alias, log_folder=logs, saved=source, halt=halt)
            running = stack.enter_context(coming)
        finally:
            self._coming.pop(alias, None)
        if self._over:
            stack.close()
            raise InfrastructureError(f"{alias}: the run has ended")
        self._pidfds[alias] = pidfd = _pidfd(alias, running.pid)
        stack.callback(self._forget, alias, pidfd)
        ready = deploy.deployed(
            running.address,
            self._layout,
            alias,
            self._folder.path,
            accel=Accel.KVM,
            restored=source is not None,
        )
        return stack.enter_context(ready)

    def _forget(self, alias: str, pidfd: int) -> None:
        with self._lock:
            if self._pidfds.get(alias) == pidfd:
                os.close(self._pidfds.pop(alias))

    def _log(self, alias: str) -> Path:
        number = self._tries[alias]
        return self._logs / (alias if number == 1 else f"{alias}-{number}")

    def trouble(self, alias: str) -> str | None:
        """The crash that the lab's kernel reported, quoted, or that its emulator ended.

        None if neither, or it is no lab of ours.
        """
        if alias not in self._tries:
            return None
        return Console(self._log(alias) / "console.log").crash() or self._ended(alias)

    def _ended(self, alias: str) -> str | None:
        with self._lock:
            pidfd = self._pidfds.get(alias)
            if pidfd is None:
                return None
            look = select.poll()
            look.register(pidfd, select.POLLIN)
            return f"{alias}: its emulator has ended" if look.poll(0) else None

    def kill(self, alias: str) -> None:
        """Kill a lab's emulator: one whose kernel hangs would keep its orderly end waiting."""
        with self._lock:
            pidfd = self._pidfds.pop(alias, None)
            if pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)

    def end(
        self,
        alias: str,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: types.TracebackType | None = None,
    ) -> None:
        """End a lab. What is found wrong with it only then is a warning: the verdicts stand without it."""
        stack = self._stacks.pop(alias, None)
        if stack is None:
            return
        try:
            stack.__exit__(kind, error, trace)
        except InfrastructureError as trouble:
            if error is not None:
                raise
            _log.warning("%s", trouble)

    def end_all(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> bool:
        """End each, whatever the others do, and those still coming up; lets an exception pass."""
        self._over = True
        for halt in list(self._coming.values()):
            halt.say()
        with contextlib.ExitStack() as stack:
            for alias in list(self._stacks):
                stack.callback(self.end, alias, kind, error, trace)
        return False


def _pidfd(alias: str, pid: int) -> int:
    """:raise InfrastructureError: the emulator has ended already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise InfrastructureError(f"{alias}: its emulator (process {pid}) has ended") from error


@contextlib.contextmanager
def opened(
    wish: lab.Wish,
    folder: RunFolder,
    logs: Path,
    progress: Progress,
    *,
    fresh: bool,
    notes: list[str],
    instead_of: deploy.Layout | None = None,
) -> Iterator[Labs]:
    """Labs of `wish`, all of which have ended when the `with` is left.

    They are restored from a saved lab, which is made first if there is none, unless `fresh`. Where none can
    be made or restored they are booted; `notes` gets the reason.

    :param instead_of: they come only if another lab dies, whose workers knew it with this layout: none is
        saved for that.
    """
    with contextlib.ExitStack() as stack:
        source = None
        identity = lab_identity(wish)
        if instead_of:
            source = stack.enter_context(saved.labs().using(identity))
        elif not fresh:
            lab.check_memory(wish.memory_mib)
            try:
                source = stack.enter_context(saved.held(wish, identity, folder, logs / "saved-lab", progress))
            except InfrastructureError as error:
                notes.append(f"lab: none could be saved for all runs: {error.summary}")
                # now, too: to boot them anew takes each run a minute, and the notes come at its end
                _log.warning("%s%s", notes[-1], f"\nhint: {error.hint}" if error.hint else "")
                _keep(error, logs)
        made = Labs(wish, source, folder, logs, notes, instead_of or deploy.LAB)
        try:
            stack.push(made.end_all)
            yield made
        finally:
            if made.unrestorable:
                stack.close()
                notes.append(f"lab: the saved one did not restore{_discarded(identity)}: {made.unrestorable}")


def _discarded(identity: str) -> str:
    """Remove a saved lab that is of no use; what became of that."""
    try:
        saved.labs().discard(identity)
    except InfrastructureError as error:
        return f" and stays ({error.summary})"
    return " and was removed"


def _keep(error: HarnessError, logs: Path) -> None:
    """The whole of an error that the run goes on without."""
    (logs / "saved-lab").mkdir(parents=True, exist_ok=True)
    (logs / "saved-lab" / "error.txt").write_text(f"{error}\n")
