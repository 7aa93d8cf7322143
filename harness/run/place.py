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
from harness.lab import keys
from harness.model.errors import HostUnfit
from harness.model.link import Link
from harness.model.spec import Accel, Drive, MachineSpec, Qemu, Vsock
from harness.run import hybrid
from harness.run import proxy as proxies
from harness.run.arrival import Arrival

USUAL = "pod"
"""The image of guests, unless another one is asked for."""

TEMPLATES = Limits(bytes=4 << 30)
"""What is kept of saved pods; one takes 100 to 200 MB on disk, twice that where there is vsock."""


_MEMORY_MIB = 512
_APPEND = " ".join(
    (
        # a getty would take the link virtconsole for a terminal to log in at; those of tty2 to 6 cost time
        "systemd.getty_auto=no systemd.mask=getty-static.service",
        # the image's files are all of 1970, so systemd would think that its caches are older than /usr
        "systemd.condition_needs_update=no",
        # it tells only of what goes wrong: each byte on the console costs an emulated CPU much
        "systemd.show_status=auto",
        "mitigations=off",
    )
)
"""Of a distribution's guest."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The images, QEMU and accelerator that this host's pods use, and the run's folder.

    `templates` keeps the saved pods that clones go on from. `initrd` is the guest image's with what pods are
    given behind it: the agent, or the keys of its `arrival`; `agent` the hash that the guest must answer.
    `proxy` is the command line of a multiplexing proxy (`harness.model.proxy`), empty if there is none.
    `hybrid` is that of the process behind a vhost-user-vsock-pci, without its options; empty as well.
    `lacks` says of links that this host can't give what keeps it from that.
    `programs` is the image of other people's programs (`harness.run.programs`), None if this host has none.
    `distribution` is the image of a distribution's own guest, None where it wasn't asked for (`with_guest`).
    `notes` are things a reader of the results should know about this host.
    """

    folder: RunFolder
    templates: Depot
    qemu: Qemu
    guest: Image
    initrd: Path
    agent: str
    accel: Accel
    arrival: Arrival = Arrival()
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
        spec = pod_spec(self.guest.file("vmlinux"), self.initrd, self.accel, links, vsock)
        return distributed(spec, self.guest.file("root.erofs")) if self.guest.is_distribution else spec


def pod_spec(kernel: Path, initrd: Path, accel: Accel, links: Iterable[Link], vsock: Vsock) -> MachineSpec:
    """A pod's VM, wherever its files are."""
    return MachineSpec(
        name="pod", kernel=kernel, initrd=initrd, links=frozenset(links), vsock=vsock, accel=accel
    )


def distributed(spec: MachineSpec, root: Path) -> MachineSpec:
    """The same with a distribution's own guest, whose root is the file `root`; it has a network as well."""
    return msgspec.structs.replace(
        spec, append=_APPEND, memory_mib=_MEMORY_MIB, drives=(Drive(path=root),), ssh_forward=0
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
        made = Place(
            folder=folder,
            templates=_depot(templates, folder),
            qemu=of_image(qemu) if qemu else Qemu(),
            guest=guest,
            initrd=guest.file("initrd"),
            agent=inject.expected_digest(),
            accel=accel,
            proxy=proxy or _reference_proxy(store),
            hybrid=_hybrid(store),
            lacks=lacks or {},
            programs=store.find("programs"),
            distribution=store.find("debian"),
            notes=() if harmless else (f"net.vsock.g2h_fallback: {fallback.seen}",),
        )
        yield with_guest(made, guest)


def with_guest(place: Place, guest: Image) -> Place:
    """The place with this guest; its initramfs is written into the run's folder.

    The keys that open a distribution's sshd are beside the templates, which know them.

    :raise HostUnfit: there are none yet, and ssh-keygen is not installed.
    """
    initrd, arrival = place.folder.path / f"{guest.name}.initrd", Arrival()
    if guest.is_distribution:
        pair = keys.ensure(place.templates.root.with_name("guest-keys"))
        keys.write_initrd(guest.file("initrd"), pair, initrd)
        arrival = Arrival(pair)
    else:
        inject.write_initrd(guest.file("initrd"), initrd)
    return msgspec.structs.replace(place, guest=guest, initrd=initrd, arrival=arrival)


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
