"""What a pytest process that runs items holds meanwhile: a place for pods, a forker, a results folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from harness.host import doctor
from harness.host.paths import Cache, cache_root
from harness.image import build
from harness.image.qemu import of_image
from harness.image.store import Store
from harness.model.errors import HostUnfit
from harness.model.spec import Accel
from harness.plugin import options
from harness.run import place, templates
from harness.run.nursery import Nursery

KEY = pytest.StashKey["Bench"]()


class Setting(msgspec.Struct, frozen=True):
    """What the controller tells a worker: where results go and images are, which accelerator works."""

    results: str
    images: str = ""
    accel: str = ""


class Bench:
    """Made when the first item needs it, closed when the session ends."""

    def __init__(self, setting: Setting, proxy: tuple[str, ...]) -> None:
        self.results = Path(setting.results)
        self._setting = setting
        self._proxy = proxy
        self._stack = contextlib.ExitStack()
        self._place: place.Place | None = None
        self._nursery: Nursery | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> Bench:
        """The session's own."""
        if KEY not in config.stash:
            data = getattr(config, "workerinput", {}).get("vsock_harness")
            setting = msgspec.json.decode(data, type=Setting) if data else Setting(config.stash[RESULTS])
            bench = config.stash[KEY] = cls(setting, options.proxy(config))
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
            extra = (Path(self._setting.images),) if self._setting.images else ()
            store = Store(cache_root(), extra=extra)
            accel = Accel(self._setting.accel) if self._setting.accel else _accel(store)
            self._place = self._stack.enter_context(
                place.opened(store, accel=accel, templates=templates.folder(), proxy=self._proxy)
            )
        return self._place

    @property
    def nursery(self) -> Nursery:
        """The forker of client processes."""
        if self._nursery is None:
            self._nursery = self._stack.enter_context(Nursery())
        return self._nursery

    def close(self) -> None:
        """Give everything back."""
        self._stack.close()


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


def _accel(store: Store) -> Accel:
    """KVM where this host passes every probe of the ones that pods need."""
    lacking = doctor.lacking_local({item.ability: item for item in doctor.examine(available(store), Cache())})
    if lacking:
        first = lacking[0]
        raise HostUnfit(
            f"this host can't run pods: {first.ability} {first.verdict}: {first.seen}",
            ability=first.ability,
            hint=first.mend,
        )
    return Accel.KVM
