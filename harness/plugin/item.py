"""One scenario on one link as a pytest item."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.host import admission
from harness.host.speed import measure, slowness
from harness.judge import judge
from harness.model.deadline import Deadline
from harness.model.errors import HarnessError, HostUnfit, SystemFailure
from harness.model.fault import FaultKind
from harness.model.link import Link
from harness.model.plan import Boot, Plan
from harness.model.trace import Event
from harness.plugin import evidence
from harness.plugin.bench import SLOWNESS, Bench
from harness.run import hostsockets, pod, record, serving
from harness.run.aftermath import control_link
from harness.run.control import Tool
from harness.run.coordinator import PlanOverdue, run_plan
from harness.run.faults import PodFault, copying
from harness.run.place import Place

_PLAN_SECONDS = 60.0
"""For what takes a few seconds on a desktop core; multiplied by the host's slowness."""


class ScenarioItem(pytest.Item):
    """Set-up boots the pod, so that what goes wrong there is an ERROR or a skip; the call judges."""

    def __init__(self, *, plan: Plan, **rest: Any) -> None:
        super().__init__(**rest)
        labels = {"claim": plan.claim.value, "link": plan.link.value, "scenario": plan.scenario}
        labels["backend"] = plan.link.backend
        self.user_properties += labels.items()
        self.plan = self._here = plan
        self._stack = contextlib.AsyncExitStack()
        self._runner: asyncio.Runner | None = None
        self._pod: pod.Pod | None = None
        self._beside: pod.Pod | None = None
        self._is_well = False
        self._tools: dict[str, Tool] = {}
        self._queued = 0.0

    @property
    def _folder(self) -> Path:
        return Bench.of(self.config).results / f"{self.plan.scenario}-{self.plan.link}"

    def setup(self) -> None:
        """Boot the pod.

        :raise HostUnfit: as a skip that names the ability, unless --strict-host.
        """
        bench = Bench.of(self.config)
        self.stash[evidence.FOLDER] = self._folder
        self._runner = bench.runner
        if self.plan.boot is Boot.COLD and (why := self.plan.only_cloned):
            pytest.skip(f"boot cold: {why}")
        try:
            place = bench.place
            here = self.plan.on_kernel(platform.release(), place.guest.manifest.kernel)
            self._queued = self._stack.enter_context(admission.admitted())
            # a host's speed changes with what else it does
            self.user_properties.append((SLOWNESS, round(measure(), 2)))
            self._here = here.stretched(slowness())
            link = self.plan.link
            links = serving.links(self.plan) | ({control_link(link)} if self.plan.fault else set())
            self._pod = self._runner.run(self._stack.enter_async_context(self._made(place, links)))
            start = time.monotonic()
            serve = serving.served(self.plan, self._pod, place, self._folder)
            self._tools = self._runner.run(self._stack.enter_async_context(serve))
            if self.plan.programs:
                self._pod.seconds["programs"] = round(time.monotonic() - start, 3)
            if any(group.elsewhere for group in self.plan.groups):
                self._beside = bench.shared(link)
                self.session.addfinalizer(bench.end_shared)  # with the last item, whose ERROR it then is
        except HostUnfit as error:
            if self.config.option.vsock_strict:
                raise
            pytest.skip(f"{error.ability}: {error.summary}")

    def _made(self, place: Place, links: set[Link]) -> AbstractAsyncContextManager[pod.Pod]:
        plan = self.plan
        if plan.boot is Boot.CLONE:
            kind = plan.fault.kind if plan.fault else None
            wish = pod.CloneWish(
                seqpacket=plan.seqpacket,
                own_memory=kind is FaultKind.RESTORE,
                boots_again=kind is FaultKind.GUEST_RESET,
            )
            return pod.cloned(place, links, self._folder, wish)
        return pod.booted(place, links, self._folder, seqpacket=plan.seqpacket)

    def runtest(self) -> None:
        """Run the plan's clients, judge what they saw, keep the evidence.

        :raise SystemFailure: the verdict is failed, or the guest crashed.
        """
        assert self._runner is not None
        assert self._pod is not None
        with hostsockets.kept(self._folder, self.plan.link) as saw:
            self._runner.run(self._judged(self._pod, Bench.of(self.config), saw))
        self._is_well = True

    async def _judged(self, running: pod.Pod, bench: Bench, saw: Callable[[Event], None]) -> None:
        overdue: PlanOverdue | None = None
        try:
            copy = copying(bench.place, running, self._folder) if self.plan.fault else None
            async with PodFault.prepared(self.plan, running, slowness(), copy) as fault:
                trace = await run_plan(
                    self._here,
                    running.endpoint(self.plan.link),
                    deadline=Deadline((_PLAN_SECONDS + self._boots_again(running)) * slowness()),
                    slowness=slowness(),
                    on_event=saw,
                    nursery=bench.nursery,
                    deed=fault,
                    elsewhere=self._beside.endpoint(self.plan.link) if self._beside else None,
                    tools=self._tools,
                )
        except PlanOverdue as error:
            overdue, trace = error, error.trace
        begun = time.monotonic()
        verdict = judge(self._here, trace)
        seconds = {"queue": round(self._queued, 3), **running.seconds}
        seconds["judge"] = round(time.monotonic() - begun, 3)
        facts = record.facts(
            bench.place, self.plan.link, running.hello, running.qemu, seconds, slowness(), running.notes
        )
        record.write(self._folder, self._here, trace, verdict, facts)
        self.user_properties.append(("verdict", msgspec.json.encode(verdict).decode()))
        await running.check()
        if self._beside is not None:
            await self._beside.check()
        if overdue is not None:
            raise overdue
        if not verdict.passed:
            hint = f"evidence: {bench.shown}/{self._folder.name}/trace.jsonl"
            raise SystemFailure(verdict.difference, hint=hint)

    def _boots_again(self, running: pod.Pod) -> float:
        """Seconds of a plain machine that the guest may take for booting again within the plan."""
        resets = self.plan.fault is not None and self.plan.fault.kind is FaultKind.GUEST_RESET
        return running.arrival.seconds if resets else 0.0

    def teardown(self) -> None:
        """End the pod; what was wrong with it then is an ERROR of its own."""
        if self._runner is None:
            return
        try:
            self._runner.run(self._stack.aclose())
        finally:
            if self._beside and not self._is_well:  # it may be the reason, or have suffered
                Bench.of(self.config).end_shared()

    def told(self, error: HarnessError, when: str) -> str:
        """An error of the harness says all itself; a traceback is only for bugs.

        :param when: pytest's name of the phase, which decides what it counts, whoever's fault it was.
        """
        word = "FAIL" if when == "call" else "ERROR"
        notes = "\n".join(getattr(error, "__notes__", []))
        return f"{word} {self.plan.scenario} on {self.plan.link}: {error}\n{notes}".rstrip()

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where this comes from, for pytest's lines."""
        return self.path, None, f"{self.plan.scenario} on {self.plan.link}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What went wrong, told by the item, and by the word that pytest counts it under."""
    report = yield
    if isinstance(item, ScenarioItem) and report.failed and call.excinfo is not None:
        error = call.excinfo.value
        if isinstance(error, HarnessError):
            report.longrepr = item.told(error, call.when)
    return report
