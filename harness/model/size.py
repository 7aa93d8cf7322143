"""Sizes as scenario files write them."""

from __future__ import annotations

import re

PATTERN = r"^[0-9]+(KiB|MiB|GiB)$"
"""What a size is when it is not a plain integer."""

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def guess_size(text: str) -> str:
    """What `text` was perhaps meant to be: ``1 MB`` and ``1m`` become ``1MiB``, else itself."""
    found = re.fullmatch(r"([0-9]+)\s*([kmg])(i?b)?", text.strip(), re.IGNORECASE)
    return f"{found[1]}{found[2].upper()}iB" if found else text


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
