"""What pods are made from on the host that this process runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.guest import inject
from harness.host.cid import settle_g2h_fallback
from harness.host.finding import Verdict
from harness.host.runfolder import RunFolder
from harness.image.qemu import of_image
from harness.image.store import Image, Store
from harness.model.errors import HostUnfit
from harness.model.spec import Accel, Qemu
from harness.run import proxy as proxies


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The images, QEMU and accelerator that this host's pods use, and the run's folder.

    `initrd` is the guest image's with the agent behind it; `agent` the hash that the guest must answer.
    `proxy` is the command line of a multiplexing proxy (`harness.model.proxy`), empty if there is none.
    `notes` are things a reader of the results should know about this host.
    """

    folder: RunFolder
    qemu: Qemu
    guest: Image
    initrd: Path
    agent: str
    accel: Accel
    proxy: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def opened(store: Store, *, accel: Accel, proxy: tuple[str, ...] = ()) -> Iterator[Place]:
    """A place for pods for the time of the `with`; afterwards nothing of it is left on this host.

    :param proxy: the command line of an external proxy; by default it is the reference proxy's.
    :raise HostUnfit: when the guest image isn't there (it is built where the run is started).
    """
    guest = store.find("pod")
    if guest is None:
        raise HostUnfit(
            "this host has no guest image that fits this checkout",
            ability="images",
            hint="vsock-harness images build pod",
        )
    qemu = store.find("qemu")
    fallback = settle_g2h_fallback()
    harmless = fallback.verdict in (Verdict.OK, Verdict.NOT_NEEDED)
    with RunFolder.create() as folder:
        initrd = folder.path / "pod.initrd"
        inject.write_initrd(guest.file("initrd"), initrd)
        yield Place(
            folder=folder,
            qemu=of_image(qemu) if qemu else Qemu(),
            guest=guest,
            initrd=initrd,
            agent=inject.expected_digest(),
            accel=accel,
            proxy=proxy or _reference_proxy(store),
            notes=() if harmless else (f"net.vsock.g2h_fallback: {fallback.seen}",),
        )


def _reference_proxy(store: Store) -> tuple[str, ...]:
    image = store.find("proxy")
    return proxies.of_image(image) if image else ()
