"""Measurements of pods' memory, made up."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge import density as judge
from harness.model.density import Density, Memory, PodMemory, Step


def memory(mb: float, text: float = 0.0, sharers: int = 1) -> Memory:
    """So much of its own, and text that so many processes map."""
    own = mb + (text if sharers == 1 else 0)
    return Memory(rss=round((mb + text) * 1e6), pss=round((mb + text / sharers) * 1e6), uss=round(own * 1e6))


def measured(
    proxies: Sequence[float], proxied: Sequence[float], plain: Sequence[float], text: float = 2.0
) -> Density:
    """Pods of so many MB, and proxies, which share their text."""
    steps = []
    for count in range(1, len(proxies) + 1):
        with_one = tuple(
            PodMemory(qemu=memory(proxied[place]), proxy=memory(proxies[place], text, count), processes=2)
            for place in range(count)
        )
        without = tuple(PodMemory(qemu=memory(plain[place]), processes=1) for place in range(count))
        steps.append(Step(proxied=with_one, plain=without, looks=2))
    return Density(
        steps=tuple(steps),
        used=tuple(memory(mb + 1) for mb in proxies[:3]),
        clients=10,
        echoed=100_000,
        proxy="proxy",
        host_kernel="6.12",
        guest_kernel="6.12",
        qemu="10.0",
    )


PROXIES, PLAIN = (0.7, 0.68, 0.74, 0.71, 0.66, 0.72), (40.1, 41.2, 39.8, 40.6, 40.3, 40.9)
MORE = (0.3, -0.1, 0.2, 0.0, 0.1, 0.1)
GOOD = measured(PROXIES, [mb + more for mb, more in zip(PLAIN, MORE, strict=True)], PLAIN)


def red(density: Density) -> tuple[str, ...]:
    return judge.judge(density).differences
