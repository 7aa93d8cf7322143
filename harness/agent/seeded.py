"""Seeded data: the same bytes on both ends without sending them."""

from collections.abc import Iterator
from random import Random


def stream(seed: int, total: int, chunk: int) -> Iterator[bytes]:
    """Yield `total` bytes in pieces of `chunk`, the last one shorter. The bytes depend on `seed` alone.

    The same on every Python from 3.9: ``Random(seed).randbytes`` in whole 32-bit words.

    :raise ValueError: if `chunk` is not a positive multiple of 4; only then may pieces be cut at will.
    """
    if chunk <= 0 or chunk % 4:
        raise ValueError(f"pieces of {chunk} bytes: must be a positive multiple of 4")
    source = Random(seed)
    for start in range(0, total, chunk):
        length = min(chunk, total - start)
        yield source.randbytes(-(-length // 4) * 4)[:length]
