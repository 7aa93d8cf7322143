"""Sizes as scenario files write them."""

from __future__ import annotations

import re

PATTERN = r"^[0-9]{1,18}(KiB|MiB|GiB)$"
"""What a size is when it is not a plain integer."""

MAX_GIB = 1024
"""What no size exceeds."""

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def guess_size(text: str) -> str:
    """What `text` was perhaps meant to be: ``1 MB`` and ``1m`` become ``1MiB``, else itself."""
    found = re.fullmatch(r"([0-9]+)\s*([kmgt])(i?b)?", text.strip(), re.IGNORECASE)
    if found and found[2] in "tT":
        return f"{MAX_GIB}GiB" if found[1] == "1" else text
    return f"{found[1]}{found[2].upper()}iB" if found else text


def size_words(size: int) -> str:
    """A size as a file may write it: the largest unit that has a whole number of it; plain bytes if none."""
    units = [unit for unit, bytes in _UNITS.items() if size >= bytes and size % bytes == 0]
    return f"{size // _UNITS[units[-1]]}{units[-1]}" if units else str(size)


def parse_size(value: int | str) -> int:
    """Bytes of `value`: an integer, or digits with one of KiB, MiB, GiB (powers of 1024).

    :raise ValueError: `value` is text of another form.
    """
    if isinstance(value, int):
        return value
    digits, unit = value[:-3], value[-3:]
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{value!r} is not a size: an integer (bytes) or such as 64KiB, 1MiB, 2GiB")
    return int(digits) * _UNITS[unit]
