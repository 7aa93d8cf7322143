"""What the figures shall reach: shown, met or missed, and never a test that fails."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`figure`'s median over `subject`; with `over`, the median of that divided by `over`'s, pair by pair.

    `most` and `least` bound it; exactly one of them is given. With `worst`, no sample may miss it.
    """

    figure: str
    subject: str = ""
    over: str = ""
    most: float | None = None
    least: float | None = None
    worst: bool = False

    @property
    def wish(self) -> str:
        """The bound, for people."""
        bound = f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"
        return f"always {bound}" if self.worst else bound

    def met(self, median: float, least: float, most: float) -> bool:
        """Whether values with this median and spread are within the bound."""
        if self.least is not None:
            return (least if self.worst else median) >= self.least
        return (most if self.worst else median) <= (self.most or 0.0)


_GROWTH = "growth since the first ten lifecycles"

TARGETS = (
    Target(figure="first answer", subject="cold", over="clone", least=8),
    Target(figure="first answer", subject="clone", most=2),
    Target(figure="memory of a further VM (PSS)", subject="clone", over="cold", most=0.3),
    Target(figure="throughput, host to guest", subject="ours", over="socat", least=0.9),
    Target(figure="throughput, guest to host", subject="ours", over="socat", least=0.9),
    Target(figure="whole run", subject="restored", most=20),
    Target(figure="make e2e", most=120),
    Target(figure="clients intact of 20 pods at once", least=160, worst=True),
    *(
        Target(figure=_GROWTH, subject=what, most=0, worst=True)
        for what in ("processes", "descriptors", "CIDs", "files")
    ),
)
