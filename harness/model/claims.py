"""The claims: sentences of "Kata Containers and VSOCKs" that scenarios prove, each a row of the report."""

from __future__ import annotations

from enum import StrEnum


class Claim(StrEnum):
    """A row of the report; the value is the id used in scenario files."""

    SERIAL_PORTABLE = "serial-portable"
    SERIAL_ONE_PROCESS = "serial-one-process"
    MULTIPLE_CLIENTS = "multiple-clients"
    POD_DIAGRAM = "pod-diagram"
    HOST_REQUIREMENTS = "host-requirements"
    KATA_CONFIG = "kata-config"
    VMWARE_GUEST = "vmware-guest"
    HIGH_DENSITY = "high-density"
    RELIABILITY = "reliability"
    OTHER = "other"  # what a file without `claim` is about; reports have this row only where there is one

    @property
    def sentence(self) -> str:
        """What the page says, shortened to one line."""
        return _SENTENCES[self]

    @property
    def answer(self) -> str:
        """What became of the sentence by all that this project found, in a line; "" for `OTHER`.

        It begins with: holds, holds in part, or holds for some versions. README has the same.
        """
        return _ANSWERS.get(self, "")

    @property
    def elsewhere(self) -> str:
        """The command that shows it where a run of scenarios does not; "" if there is none."""
        return _ELSEWHERE.get(self, "")


_SENTENCES = {
    Claim.SERIAL_PORTABLE: "serial ports are the most portable way: a guest device, a host Unix socket",
    Claim.SERIAL_ONE_PROCESS: "the serial link limits read/write access to one process at a time",
    Claim.MULTIPLE_CLIENTS: "vsock accepts connections from multiple clients",
    Claim.POD_DIAGRAM: "two shims drive two containers through one agent and one vsock device, no proxy",
    Claim.HOST_REQUIREMENTS: "vsock needs a host kernel of 4.8 or later with vhost_vsock loaded or built in",
    Claim.KATA_CONFIG: "vsock needs Kata 1.2.0 or later with use_vsock set to true",
    Claim.VMWARE_GUEST: "in a VMware guest, vmw_vsock_vmci_transport must be unloaded first",
    Claim.HIGH_DENSITY: "a proxy that multiplexes the connections costs 4.5 MB per pod",
    Claim.RELIABILITY: "the connection is lost only if the VM or the shim dies",
    Claim.OTHER: "none of the page's sentences",
}

_ANSWERS = {
    Claim.SERIAL_PORTABLE: (
        "holds: virtio-serial, virtconsole and isa-serial carry data intact, "
        "and the host needs nothing but a Unix socket"
    ),
    Claim.SERIAL_ONE_PROCESS: (
        "holds in part: the host's end serves one. In the guest only virtio-serial refuses a second open(). "
        "Who comes after a client that left early reads its answer"
    ),
    Claim.MULTIPLE_CLIENTS: (
        "holds: fifty at once, intact, if the agent accepts them. They are not served alike: "
        "one that sends single bytes without pause holds up all others of its VM, "
        "on an emulated host for seconds"
    ),
    Claim.POD_DIAGRAM: "holds",
    Claim.HOST_REQUIREMENTS: "holds on 5.10, 6.1, 6.12 and 7.2; older ones were not to be had",
    Claim.KATA_CONFIG: (
        "holds for 1.2.0 to 1.13, by Kata's own documents and files; since 2.0.0 there is nothing to set"
    ),
    Claim.VMWARE_GUEST: (
        "holds in part: before Linux 5.5 by the kernel's source; "
        "since then only where this machine itself runs VMs by /dev/vmci"
    ),
    Claim.HIGH_DENSITY: (
        "holds in part: of one kata-proxy alone, 4.1 MB of PSS; one more of many takes 1.2 MB, of ours 0.7 MB"
    ),
    Claim.RELIABILITY: (
        "holds in part: it is lost if the agent dies, too; "
        "and of a guest that panics or is reset the host is told nothing"
    ),
}

_ELSEWHERE = {Claim.HOST_REQUIREMENTS: "make requirements", Claim.VMWARE_GUEST: "make requirements"}
