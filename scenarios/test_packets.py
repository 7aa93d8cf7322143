"""How large a piece the guest may write: the kernel's vsock device and vhost-device-vsock, side by side.

The guest's driver makes one packet of each write, up to 64 KiB (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE), and one of
more than 32 KiB in several pieces (seen with 6.12.118 and 7.2, not with 5.10.0-32 and 6.1.192; presumably
"vsock/virtio: Allocate nonlinear SKBs for handling large transmit buffers" of 2025). vhost-device-vsock 0.3.0
drops what has more than a header and one piece, and says so only at RUST_LOG=debug (process_tx_queue in its
vhu_vsock_thread.rs).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from harness.agent.wire import Frame, Kind, encode
from harness.guest.client import AgentClient, WrongData
from harness.host.speed import slowness
from harness.link.connect import connect
from harness.model.deadline import Deadline
from harness.model.errors import DeadlinePassed
from harness.model.expect import version_of
from harness.model.link import Endpoint, Link
from harness.model.plan import Initiated
from harness.plugin.fixtures import Pods
from harness.run.dialled import dialled

pytestmark = pytest.mark.long

KIB = 1024
OWN = len(encode(Frame(Kind.DATA, 1, b"")))
"""Bytes of a frame beside its payload."""

SIZES = (16 * KIB, 32 * KIB, 32 * KIB + 1, 64 * KIB)
LOST = (32 * KIB + 1, 64 * KIB)
"""What is known to be lost by vhost-device-vsock 0.3.0. A test that fails here may be good news."""

IN_PIECES = (6, 12)
"""Since this kernel of the guest, the oldest seen, such a packet is in several pieces."""

PATIENCE = 3.0
"""Seconds without an answer, times the host's slowness; one takes milliseconds."""


OPENERS = (Initiated.HOST, Initiated.GUEST)
"""Whoever opens the connection, on it the same is lost."""


def carried(endpoint: Endpoint, opener: Initiated, size: int, *, to_guest: bool) -> bool:
    """Whether one write of `size` bytes arrives, on a connection of its own that `opener` opens.

    Where it does not, either nothing comes any more, or what was written after it: the stream has a hole.
    """
    data, deadline = size - OWN, Deadline(PATIENCE * slowness())
    by_host = opener is Initiated.HOST
    with connect(endpoint) if by_host else dialled(endpoint, slowness(), deadline) as sock:
        agent = AgentClient(sock, chunk=data)
        try:
            if to_guest:
                agent.send(1, data, deadline=deadline)
            else:
                agent.receive(1, data, deadline=deadline)
        except (DeadlinePassed, WrongData):
            return False
    return True


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(link, marks=pytest.mark.claim("reliability", link=link))
        for link in (Link.VSOCK, Link.HYBRID_VSOCK)
    ],
)
def test_large_writes(link: Link, pods: Pods, record_property: Callable[[str, object], None]) -> None:
    """Writes of 16 to 64 KiB, one to a connection, in both directions, on connections of each side's."""
    pod = pods.clone(link)
    endpoint = pod.endpoint(link)
    in_pieces = version_of(pods.place.guest.manifest.kernel) >= IN_PIECES
    known = list(LOST) if link is Link.HYBRID_VSOCK and in_pieces else []
    record_property("expected", told(known))
    sent = [(opener, size) for opener in OPENERS for size in SIZES]
    stuck = [size for opener, size in sent if not carried(endpoint, opener, size, to_guest=True)]
    lost = {
        opener: [size for size in SIZES if not carried(endpoint, opener, size, to_guest=False)]
        for opener in OPENERS
    }
    by = f" by {version(pods)}" if any(lost.values()) and pod.device else ""
    to_guest = f"; the host's of {stuck} do not arrive" if stuck else ""
    record_property("seen", "; ".join(dict.fromkeys(map(told, lost.values()))) + by + to_guest)
    # without a word: VM and device are well, and another connection is served
    pods.run(pod.check())
    assert all(carried(endpoint, opener, 1 * KIB, to_guest=False) for opener in OPENERS)
    assert not stuck
    assert lost == dict.fromkeys(OPENERS, known)


def told(lost: list[int]) -> str:
    """Sizes in words."""
    sizes = " and ".join(map(str, lost))
    return f"the guest's writes of {sizes} bytes are lost without an error" if lost else "no write is lost"


def version(pods: Pods) -> str:
    """The device's program and its version."""
    words = [*pods.place.hybrid, "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
