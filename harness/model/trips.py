"""What round trips took: how many are kept, and figures of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST = 1000
"""Round trips of a step that are kept one by one: an event must fit into a message between processes."""


def kept(trips: Sequence[int]) -> tuple[int, ...]:
    """`trips` in their order; of more than `MOST`, so many of them by rank, from least to greatest."""
    if len(trips) <= MOST:
        return tuple(trips)
    ranked = sorted(trips)
    return tuple(ranked[place * (len(ranked) - 1) // (MOST - 1)] for place in range(MOST))


def quantile(trips: Sequence[float], share: float) -> float:
    """The least of `trips` that so large a `share` of them (0 to 1) does not exceed: a nearest rank.

    :raise ValueError: there are none.
    """
    if not trips:
        raise ValueError("no round trips, so no quantile of them")
    ranked = sorted(trips)
    return ranked[max(0, math.ceil(round(share * len(ranked), 6)) - 1)]
