"""Unix sockets of this machine, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

_TABLE = Path("/proc/net/unix")
_LISTENS = 0x10000
"""__SO_ACCEPTCON, in the flags of proc_net_unix(5)."""


def listening() -> frozenset[str]:
    """The paths of sockets on which somebody listens: a file alone is there from bind() on, and refuses."""
    lines = (line.split() for line in _TABLE.read_text().splitlines()[1:])
    return frozenset(words[7] for words in lines if len(words) > 7 and int(words[3], 16) & _LISTENS)
