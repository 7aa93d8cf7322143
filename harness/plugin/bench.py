"""What a pytest process that runs items holds meanwhile: a place for pods, a forker, a results folder."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from harness.host import doctor
from harness.host.finding import Finding
from harness.host.paths import SHARED_IMAGES, Cache, cache_root, from_here
from harness.image import build
from harness.image.qemu import of_image
from harness.image.store import Store
from harness.model.errors import HostUnfit
from harness.model.link import Link
from harness.model.spec import Accel
from harness.plugin import options
from harness.run import place, templates
from harness.run.nursery import Nursery
from harness.run.pod import Pod
from harness.run.shared import Shared

KEY = pytest.StashKey["Bench"]()

SLOWNESS = "slowness"
"""The property of an item that says how slow its host was when it began (`harness.host.speed`)."""


class Setting(msgspec.Struct, frozen=True):
    """What the controller tells a worker: where results go and images are, which accelerator works.

    `shown`: where the user finds the results once they are home, if that is another folder.
    """

    results: str
    images: str = ""
    accel: str = ""
    shown: str = ""


class Bench:
    """Made when the first item needs it, closed when the session ends."""

    def __init__(self, setting: Setting, proxy: tuple[str, ...], guest: str, worker: str = "") -> None:
        """`guest` is the image of pods' guests, by name; `worker` what this process is called in the run,
        empty if it is the only one."""
        self.results = Path(setting.results)
        self.shown = setting.shown or str(from_here(self.results))
        self._setting = setting
        self._proxy = proxy
        self._guest = guest
        self._worker = worker
        self._stack = contextlib.ExitStack()
        self._runner: asyncio.Runner | None = None
        self._shared: Shared | None = None
        self._place: place.Place | None = None
        self._nursery: Nursery | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> Bench:
        """The session's own."""
        if KEY not in config.stash:
            told = getattr(config, "workerinput", {})
            data = told.get("vsock_harness")
            setting = msgspec.json.decode(data, type=Setting) if data else Setting(config.stash[RESULTS])
            bench = cls(setting, options.proxy(config), options.guest(config), told.get("workerid", ""))
            config.stash[KEY] = bench
            config.add_cleanup(bench.close)
        return config.stash[KEY]

    @property
    def is_remote(self) -> bool:
        """Whether the results folder is not on the machine where the run was started."""
        return bool(self._setting.images)

    @property
    def place(self) -> place.Place:
        """What pods are made from here.

        :raise HostUnfit: this host can't run pods; says why.
        """
        if self._place is None:
            extra = (Path(self._setting.images), SHARED_IMAGES) if self._setting.images else ()
            store = Store(cache_root(), extra=extra)
            lacks: dict[Link, Finding] = {}
            if self._setting.accel:
                accel = Accel(self._setting.accel)
            else:
                accel, lacks = _abilities(store)
            opened = place.opened(
                store,
                accel=accel,
                templates=templates.folder(),
                image=self._guest,
                proxy=self._proxy,
                lacks=lacks,
            )
            self._place = self._stack.enter_context(opened)
        return self._place

    @property
    def nursery(self) -> Nursery:
        """The forker of client processes."""
        if self._nursery is None:
            self._nursery = self._stack.enter_context(Nursery())
        return self._nursery

    @property
    def runner(self) -> asyncio.Runner:
        """The event loop of all scenarios: what they share lives longer than one of them."""
        if self._runner is None:
            self._runner = self._stack.enter_context(asyncio.Runner())
        return self._runner

    def shared(self, link: Link) -> Pod:
        """A pod that has `link` and is not this item's alone; see `Shared.pod`."""
        if self._shared is None:
            self._shared = Shared(self.place, self.results, "-".join(filter(None, ["shared", self._worker])))
        return self.runner.run(self._shared.pod(link))

    def end_shared(self) -> None:
        """End the shared pods; who asks then gets new ones.

        :raise HarnessError: what was wrong with one of them.
        """
        shared, self._shared = self._shared, None
        if shared is not None:
            self.runner.run(shared.close())

    def close(self) -> None:
        """Give everything back: the shared pods first, for which all the rest has to be there.

        :raise HarnessError: what was wrong with one of them.
        """
        with self._stack:
            self.end_shared()


RESULTS = pytest.StashKey[str]()
"""The run's results folder, on the process that has no controller above it."""


def available(store: Store) -> doctor.Available:
    """What the probes need to know of the images that are there; builds none."""
    qemu, pod = store.find("qemu"), store.find("pod")
    return doctor.Available(
        qemu=of_image(qemu) if qemu else None,
        kernel=pod.file("vmlinux") if pod else None,
        tools=build.TOOLS,
    )


def _abilities(store: Store) -> tuple[Accel, dict[Link, Finding]]:
    """How pods run here, and what is missing for some links: without KVM they run under emulation.

    :raise HostUnfit: no pod runs here.
    """
    found = {item.ability: item for item in doctor.examine(available(store), Cache())}
    lacking = doctor.lacking_pods(found)
    if lacking:
        first = lacking[0]
        raise HostUnfit(
            f"this host can't run pods: {first.ability} {first.verdict}: {first.seen}",
            ability=first.ability,
            hint=first.mend,
        )
    lacking = doctor.lacking_vsock(found)
    lacks = {Link.VSOCK: lacking[0]} if lacking else {}
    return Accel.KVM if found["kvm"].fine else Accel.TCG, lacks
