"""What `doctor` is to find in a lab of each state, and what its mending command makes of it. No VM here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.host.finding import Finding, Verdict
from harness.lab.state import OWN_KERNEL, State
from harness.model.claims import Claim

OK, MISSING, DENIED, BROKEN, UNUSED = (
    Verdict.OK,
    Verdict.MISSING,
    Verdict.DENIED,
    Verdict.BROKEN,
    Verdict.NOT_NEEDED,
)

As = Literal["root", "user", "seccomp", "container"]
"""Who runs `doctor`: root, a user, root under a seccomp filter that denies AF_VSOCK, root in a pid namespace
of its own, which is what tells a container."""

Expected = Mapping[str, tuple[Verdict, str]]
"""By ability: the verdict, and words of what was seen."""


@dataclass(frozen=True)
class Case:
    """A lab, who looks, what is found first, which ability is mended how, and what is found then.

    `mend` is the command that `doctor` is to print for `mends`, in full. `by`: it is run as it was printed;
    `doctor --fix --yes` runs it; or the test does what it says, as its program is not in a lab. `in_vain` is
    a command that fails before, and words of its error.
    """

    name: str
    state: State
    before: Expected
    mends: str = ""
    mend: str = ""
    by: Literal["printed", "fix", "test"] = "printed"
    after: Expected = field(default_factory=dict)
    who: As = "root"
    kernel: str = OWN_KERNEL
    claim: Claim = Claim.HOST_REQUIREMENTS
    in_vain: tuple[str, str] | None = None

    @property
    def words(self) -> str:
        """What is expected, in a line."""
        first = ", ".join(f"{ability} {verdict}" for ability, (verdict, _) in self.before.items())
        then = ", ".join(f"{ability} {verdict}" for ability, (verdict, _) in self.after.items())
        return f"{first}; mended by `{self.mend}`: {then}" if self.mend else first


def differing(expected: Expected, found: Mapping[str, Finding]) -> list[str]:
    """What is not as expected, a line each."""
    return [
        f"{ability} is {found[ability].verdict} ({found[ability].seen}), expected {verdict} ({words})"
        for ability, (verdict, words) in expected.items()
        if found[ability].verdict is not verdict or words not in found[ability].seen
    ]


_LOAD = "modprobe -i vhost_vsock"
_ROOM = "modprobe -r vmw_vsock_vmci_transport; modprobe -i vhost_vsock  # VMware's VMs lose their vsock"
_FINE = {"vhost-vsock": (OK, "claimed on /dev/vhost-vsock")}
_ABSENT = (MISSING, "no such device node (ENOENT); the module is loadable")
_REFUSED = (MISSING, "(ENODEV); the module is loadable, and blacklisted in /etc/modprobe.d/")


def _anywhere(kernel: str) -> Iterator[Case]:
    """What is looked at with every kernel."""
    v = "vhost-vsock"
    all_there: Expected = {
        "kernel": (OK, "at least 4.8"),
        "af-vsock": (OK, "works"),
        "vmci-transport": (UNUSED, "is not loaded"),
        **_FINE,
    }
    yield Case("loaded", State.LOADED, all_there, kernel=kernel)
    harmless = (UNUSED, "is loaded (harmless since Linux 5.5)")
    # the first AF_VSOCK socket where vsock is not loaded, here doctor's own, loads VMware's transport
    then = {**all_there, "vmci-transport": harmless}
    yield Case("not-loaded", State.NOT_LOADED, {v: _ABSENT}, v, _LOAD, after=then, kernel=kernel)
    yield Case(
        "vmci-loaded",
        State.VMCI,
        {"vmci-transport": harmless, v: _ABSENT},
        v,
        _LOAD,
        after={"vmci-transport": harmless, **_FINE},
        kernel=kernel,
        claim=Claim.VMWARE_GUEST,
    )
    yield Case(
        "vmci-in-use",
        State.VMCI_HOST,
        {"vmci-transport": (BROKEN, "VMware runs VMs here"), v: _ABSENT},
        v,
        _ROOM,
        after={"vmci-transport": (UNUSED, "is not loaded"), **_FINE},
        kernel=kernel,
        claim=Claim.VMWARE_GUEST,
        in_vain=(_LOAD, "Device or resource busy"),
    )


def _own() -> Iterator[Case]:
    """What is looked at with the lab's own kernel only: the kernel's version makes no difference."""
    v = "vhost-vsock"
    yield Case("not-loaded-fix", State.NOT_LOADED, {v: _ABSENT}, v, _LOAD, "fix", _FINE)
    yield Case("loaded-when-opened", State.AUTOLOAD, {v: (OK, "and given back; the module is loaded")})
    yield Case("blacklisted", State.BLACKLISTED, {v: _REFUSED}, v, _LOAD, after=_FINE)
    yield Case("absent", State.ABSENT, {v: (MISSING, "the module is absent")})
    node = "mknod -m 0660 /dev/vhost-vsock c 10 241"
    no_node = (MISSING, "the module is loaded, but has no node here")
    yield Case("no-node", State.NO_NODE, {v: no_node}, v, node, after=_FINE)
    denied = (DENIED, "permissions deny it to this user (EACCES)")
    chmod = "su -c 'chmod 0666 /dev/vhost-vsock'"  # a lab has no sudo
    yield Case("roots-alone", State.LOADED, {v: denied}, v, chmod, after=_FINE, who="user")
    join = "su -c 'usermod -aG kvm user'  # then log in again"
    yield Case("groups-alone", State.GROUP_ONLY, {v: denied}, v, join, after=_FINE, who="user")
    a = "af-vsock"
    no_family = (MISSING, "EAFNOSUPPORT: the kernel has no vsock loaded; the module is loadable")
    works: Expected = {a: (OK, "works")}
    yield Case("no-af-vsock", State.NO_VSOCK, {a: no_family}, a, "modprobe vsock", after=works)
    filtered: Expected = {a: (DENIED, "EPERM: a seccomp filter denies it"), **_FINE}
    docker = "docker run --security-opt seccomp=unconfined ..."
    yield Case("seccomp", State.LOADED, filtered, a, docker, "test", works, who="seccomp")
    outside = f"sudo {_LOAD}  # on this container's host; then docker run --device /dev/vhost-vsock ..."
    yield Case("container", State.NOT_LOADED, {v: _ABSENT}, v, outside, after=_FINE, who="container")


def cases(kernels: list[str]) -> list[Case]:
    """All of them, for a lab's own kernel and the other `kernels`."""
    return [*_own(), *(case for kernel in kernels for case in _anywhere(kernel))]
