"""What a benchmark measures, as data that comes home with the results."""

from __future__ import annotations

from pathlib import Path

import msgspec

Condition = str | int | float

FILE = "figures.jsonl"
"""The file in an item's results folder: a `Sample` a line."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    `subject` is which of the things that `figure` compares (clone, cold; ours, socat). Samples of one figure
    with the same `pair` and conditions were taken right after each other, and may be divided.
    """

    figure: str
    subject: str
    value: float
    unit: str
    pair: str = ""
    conditions: dict[str, Condition] = {}


class Figures:
    """Writes each sample as it is taken, so that an item that fails later keeps those before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def add(
        self,
        figure: str,
        subject: str,
        value: float,
        unit: str,
        *,
        pair: str = "",
        conditions: dict[str, Condition] | None = None,
    ) -> None:
        """Record a `Sample`; one that is compared with nothing has no `pair`, and its `subject` may be ""."""
        sample = Sample(
            figure=figure, subject=subject, value=value, unit=unit, pair=pair, conditions=conditions or {}
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(sample) + b"\n")
