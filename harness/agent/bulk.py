"""Moving much over vsock: larger socket buffers, so that sender and receiver take turns less often.

On an emulated CPU such a turn (sender, vhost's thread, the guest) costs as much as copying some 100 KiB.
"""

import socket

BULK = 4 << 20
"""From so many bytes on, both ends ask for `BUFFER`. With fewer all is as the kernel has it."""

BUFFER = 1 << 20
"""Bytes that may be on their way to a socket that was widened; vsock's own are 256 KiB."""


LITTLE = 0.05
"""Seconds after which a `LowMark` gives up waiting for much."""


def widen(sock: socket.socket) -> bool:
    """Let `BUFFER` bytes be on their way to `sock`; the other end is told at once. False if it isn't vsock.

    Both ends have to: a sender takes no more credit than its own buffer is large (seen with 6.12.118).
    It stays so: what is on its way when a buffer shrinks would be dropped (virtio_transport_inc_rx_pkt in
    net/vmw_vsock/virtio_transport_common.c).

    :raise OSError: if the kernel refuses.
    """
    if sock.family != socket.AF_VSOCK:
        return False
    sock.setsockopt(socket.AF_VSOCK, socket.SO_VM_SOCKETS_BUFFER_MAX_SIZE, BUFFER)
    sock.setsockopt(socket.AF_VSOCK, socket.SO_VM_SOCKETS_BUFFER_SIZE, BUFFER)
    return True


class LowMark:
    """Lets poll() on a widened socket wait until much can be read (SO_RCVLOWAT), `LITTLE` seconds at a time.

    Then what there is is to be read without waiting: it may not become more, as a kernel before 6.8 may not
    tell the sender that there is room (virtio/vsock: send credit update during setting SO_RCVLOWAT).
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._least = 1

    def set(self, wanted: int) -> bool:
        """Wait for `wanted` bytes, at most for half of what the socket holds. Whether it is more than one."""
        least = max(1, min(wanted, BUFFER // 2))
        if least != self._least:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least
        return least > 1
