"""The states that a user's machine may be in: a lab can be booted in each, for `doctor` to find and mend."""

from __future__ import annotations

from enum import StrEnum

from harness.image import recipe

PARAMETER = "vsock_harness.state"
"""On the lab's kernel command line; the file `states` of the lab's image acts on it."""

OWN_KERNEL = "trixie"
"""The Debian release whose kernel is in the lab's image."""

_IMAGE = "kernel-"
_AUTOLOADED = ("vmw_vsock_vmci_transport", "vsock_loopback", "hv_sock")
"""Modules with the alias net-pf-40: socket(2) has all of them loaded, and with them vsock."""


class State(StrEnum):
    """What of vsock is there in a lab, and for whom."""

    LOADED = "loaded"
    NOT_LOADED = "not-loaded"
    AUTOLOAD = "autoload"
    BLACKLISTED = "blacklisted"
    ABSENT = "absent"
    NO_NODE = "no-node"
    GROUP_ONLY = "group-only"
    NO_VSOCK = "no-vsock"
    VMCI = "vmci"
    VMCI_HOST = "vmci-host"

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return _ABOUT[self]

    @property
    def append(self) -> str:
        """What the kernel's command line has for it."""
        blacklist = f" modprobe.blacklist={','.join(_AUTOLOADED)}" if self is State.NO_VSOCK else ""
        return "" if self is State.LOADED else f" {PARAMETER}={self}{blacklist}"


_ABOUT = {
    State.LOADED: "all is there; /dev/vhost-vsock is root's alone",
    State.NOT_LOADED: "vhost_vsock is not loaded, and nothing loads it by itself",
    State.AUTOLOAD: "vhost_vsock is not loaded; /dev/vhost-vsock is there, and to open it does that",
    State.BLACKLISTED: "the same, but modprobe.d(5) keeps it from being loaded so",
    State.ABSENT: "this kernel has no vhost_vsock",
    State.NO_NODE: "vhost_vsock is loaded, /dev/vhost-vsock is not there",
    State.GROUP_ONLY: "only the group kvm may open /dev/vhost-vsock",
    State.NO_VSOCK: "AF_VSOCK's module is not loaded, and nothing loads it by itself",
    State.VMCI: "vmw_vsock_vmci_transport is loaded, vhost_vsock is not",
    State.VMCI_HOST: "the same, and /dev/vmci is in use, as by VMware when it runs VMs",
}


LINUX = {"trixie": "6.12", "bookworm": "6.1", "bullseye": "5.10", "forky": "7.2"}
"""The version of each release's kernel, without what changes with its updates; forky's still moves."""


def kernels() -> list[str]:
    """The Debian releases whose kernels a lab can have, the lab's own first."""
    others = [name.removeprefix(_IMAGE) for name in recipe.names() if name.startswith(_IMAGE)]
    return [OWN_KERNEL, *others]


def kernel_words() -> str:
    """The releases of `kernels()`, each with the version of Linux that it has."""
    return ", ".join(f"{name} (Linux {LINUX[name]})" for name in kernels())


def kernel_image(release: str) -> str | None:
    """The image that has the kernel of a release in `kernels()`; None for the lab's own."""
    return None if release == OWN_KERNEL else f"{_IMAGE}{release}"
