"""What pods are made from on the host that this process runs on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from harness.guest import inject
from harness.host.cid import settle_g2h_fallback
from harness.host.depot import Depot, Limits
from harness.host.finding import Finding, Verdict
from harness.host.runfolder import RunFolder
from harness.image.qemu import of_image
from harness.image.store import Image, Store
from harness.model.errors import HostUnfit
from harness.model.link import Link
from harness.model.spec import Accel, MachineSpec, Qemu, Vsock
from harness.run import hybrid
from harness.run import proxy as proxies

USUAL = "pod"
"""The image of guests, unless another one is asked for."""

TEMPLATES = Limits(bytes=4 << 30)
"""What is kept of saved pods; one takes 100 to 200 MB on disk, twice that where there is vsock."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The images, QEMU and accelerator that this host's pods use, and the run's folder.

    `templates` keeps the saved pods that clones go on from. `initrd` is the guest image's with the agent
    behind it; `agent` the hash that the guest must answer.
    `proxy` is the command line of a multiplexing proxy (`harness.model.proxy`), empty if there is none.
    `hybrid` is that of the process behind a vhost-user-vsock-pci, without its options; empty as well.
    `lacks` says of links that this host can't give what keeps it from that.
    `programs` is the image of other people's programs (`harness.run.programs`), None if this host has none.
    `distribution` is the image of a distribution's own guest, None where it wasn't asked for.
    `notes` are things a reader of the results should know about this host.
    """

    folder: RunFolder
    templates: Depot
    qemu: Qemu
    guest: Image
    initrd: Path
    agent: str
    accel: Accel
    proxy: tuple[str, ...] = ()
    hybrid: tuple[str, ...] = ()
    lacks: Mapping[Link, Finding] = {}
    programs: Image | None = None
    distribution: Image | None = None
    notes: tuple[str, ...] = ()

    def check(self, links: Iterable[Link]) -> None:
        """Raise if this host can't give one of `links`.

        :raise HostUnfit: names what it lacks for it.
        """
        for link in links:
            lack = self.lacks.get(link)
            if lack is not None:
                raise HostUnfit(
                    f"no {link} on this host: {lack.ability} {lack.verdict}: {lack.seen}",
                    ability=lack.ability,
                    hint=lack.mend,
                )

    def pod(self, links: Iterable[Link], vsock: Vsock) -> MachineSpec:
        """A pod's VM on this host: the guest image with the agent, the devices of `links`."""
        return pod_spec(self.guest.file("vmlinux"), self.initrd, self.accel, links, vsock)


def pod_spec(kernel: Path, initrd: Path, accel: Accel, links: Iterable[Link], vsock: Vsock) -> MachineSpec:
    """A pod's VM, wherever its files are."""
    return MachineSpec(
        name="pod", kernel=kernel, initrd=initrd, links=frozenset(links), vsock=vsock, accel=accel
    )


@contextlib.contextmanager
def opened(
    store: Store,
    *,
    accel: Accel,
    templates: Path,
    image: str = USUAL,
    proxy: tuple[str, ...] = (),
    lacks: Mapping[Link, Finding] | None = None,
) -> Iterator[Place]:
    """A place for pods for the time of the `with`; afterwards nothing of it but templates is left on this
    host.

    :param templates: the folder that keeps saved pods between runs; where it can't be written, what is there
        is used, and what is made lasts as long as the place.
    :param image: the name of the guest's.
    :param proxy: the command line of an external proxy; by default it is the reference proxy's.
    :param lacks: what was found missing for some links.
    :raise HostUnfit: when the guest image isn't there (it is built where the run is started).
    """
    guest = store.find(image)
    if guest is None:
        raise HostUnfit(
            f"this host has no guest image {image} that fits this checkout",
            ability="images",
            hint=f"vsock-harness images build {image}",
        )
    qemu = store.find("qemu")
    fallback = settle_g2h_fallback()
    harmless = fallback.verdict in (Verdict.OK, Verdict.NOT_NEEDED)
    with RunFolder.create() as folder:
        initrd = folder.path / "pod.initrd"
        inject.write_initrd(guest.file("initrd"), initrd)
        yield Place(
            folder=folder,
            templates=_depot(templates, folder),
            qemu=of_image(qemu) if qemu else Qemu(),
            guest=guest,
            initrd=initrd,
            agent=inject.expected_digest(),
            accel=accel,
            proxy=proxy or _reference_proxy(store),
            hybrid=_hybrid(store),
            lacks=lacks or {},
            programs=store.find("programs"),
            distribution=store.find("debian"),
            notes=() if harmless else (f"net.vsock.g2h_fallback: {fallback.seen}",),
        )


def _depot(kept: Path, folder: RunFolder) -> Depot:
    if _writable(kept):
        return Depot(kept, TEMPLATES)
    return Depot(folder.path / "templates", TEMPLATES, fixed=kept)


def _writable(folder: Path) -> bool:
    """Whether `folder` is, or can be made, one that this user may write to."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _hybrid(store: Store) -> tuple[str, ...]:
    image = store.find(hybrid.IMAGE)
    return hybrid.of_image(image) if image else ()


def _reference_proxy(store: Store) -> tuple[str, ...]:
    image = store.find("proxy")
    return proxies.of_image(image) if image else ()
