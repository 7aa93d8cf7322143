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
