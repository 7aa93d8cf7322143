"""Connecting again and again, so that something may happen in the middle of it."""

import contextlib
import select
import socket
from collections.abc import Callable

from .errnos import errno_name

AGAIN = "again"
"""What DIAL calls it."""

_PAUSE = 50
"""Milliseconds after a connect() that failed."""

_HELD = 5000
"""Milliseconds that a connection which its peer does not close is kept."""


def again(connect: Callable[[], socket.socket], note: Callable[[str], None], asker: int) -> None:
    """Connect, wait until the peer has closed that, connect again: until it fails when `asker` has hung up.

    `note` is told the errno's name of the first connect() that failed after one that did not.
    """
    gone = select.poll()
    gone.register(asker, select.POLLRDHUP)
    failing = False
    while True:
        try:
            with connect() as connection:
                failing = False
                _closed_by_peer(connection)
        except OSError as error:
            if not failing:
                note(errno_name(error))
            failing = True
            if gone.poll(_PAUSE):
                return


def _closed_by_peer(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    with contextlib.suppress(OSError):
        poll.poll(_HELD)
