"""From samples to a table and one JSON file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tests.bench.inside.figures import FILE, Condition, Sample
from tests.bench.targets import TARGETS, Target

Conditions = tuple[tuple[str, Condition], ...]


class Spread(msgspec.Struct, frozen=True):
    """Of the samples of one kind: how many, their median, the least and the greatest."""

    n: int
    median: float
    least: float
    most: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: a figure of one subject under the same conditions."""

    figure: str
    conditions: dict[str, Condition]
    subject: str
    unit: str
    spread: Spread


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A target, and what came of it: None, and not met, where nothing was measured."""

    target: Target
    conditions: dict[str, Condition]
    spread: Spread | None
    met: bool


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run: what it ran on, the rows, the targets, and every sample."""

    about: dict[str, object]
    rows: list[Row]
    targets: list[Judged]
    samples: list[Sample]


def read(folder: Path) -> list[Sample]:
    """The samples of every item whose results are below `folder`, in the order of their files' names."""
    found: list[Sample] = []
    paths = (Path(place, FILE) for place, _, files in os.walk(folder) if FILE in files)
    for path in sorted(paths):
        found += [msgspec.json.decode(line, type=Sample) for line in path.read_bytes().splitlines()]
    return found


def summarised(
    samples: Sequence[Sample], about: dict[str, object], targets: Iterable[Target] = TARGETS
) -> Summary:
    """The rows in the order in which figures first come, and every target."""
    groups: dict[tuple[str, Conditions, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.figure, _key(sample), sample.subject), []).append(sample)
    order = {figure: place for place, (figure, _, _) in reversed(list(enumerate(groups)))}
    rows = [
        Row(
            figure=figure,
            conditions=dict(conditions),
            subject=subject,
            unit=group[0].unit,
            spread=_spread([sample.value for sample in group]),
        )
        for (figure, conditions, subject), group in sorted(groups.items(), key=lambda item: order[item[0][0]])
    ]
    judged = [one for target in targets for one in _judge(target, samples)]
    return Summary(about=about, rows=rows, targets=judged, samples=list(samples))


def _key(sample: Sample) -> Conditions:
    return tuple(sorted(sample.conditions.items()))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(len(values), statistics.median(values), min(values), max(values))


def _judge(target: Target, samples: Sequence[Sample]) -> list[Judged]:
    """Once for all conditions under which it was measured, once without any if it never was."""
    mine = [sample for sample in samples if sample.figure == target.figure]
    found = []
    for conditions in dict.fromkeys(_key(sample) for sample in mine):
        values = _values(target, [sample for sample in mine if _key(sample) == conditions])
        if values:
            spread = _spread(values)
            met = target.met(spread.median, spread.least, spread.most)
            found.append(Judged(target=target, conditions=dict(conditions), spread=spread, met=met))
    return found or [Judged(target=target, conditions={}, spread=None, met=False)]


def _values(target: Target, samples: Sequence[Sample]) -> list[float]:
    """What the target bounds: values, or ratios pair by pair; without pairs, the ratio of the medians."""
    above = [sample for sample in samples if sample.subject == target.subject]
    if not target.over:
        return [sample.value for sample in above]
    below = [sample for sample in samples if sample.subject == target.over]
    pairs = {sample.pair: sample.value for sample in below if sample.pair}
    ratios = [sample.value / pairs[sample.pair] for sample in above if pairs.get(sample.pair)]
    if ratios or not above or not below or any(sample.pair for sample in samples):
        return ratios
    return [statistics.median(s.value for s in above) / statistics.median(s.value for s in below)]


def table(summary: Summary) -> str:
    """Two tables, of the figures and of the targets, in Markdown that reads well on a terminal too."""
    head = ["figure", "of", "median", "min … max", "n"]
    lines = [
        [
            f"{row.figure}{_shown(row.conditions)}",
            row.subject,
            f"{_number(row.spread.median)} {row.unit}",
            f"{_number(row.spread.least)} … {_number(row.spread.most)}",
            str(row.spread.n),
        ]
        for row in summary.rows
    ]
    targets = [
        [
            f"{one.target.figure}{_shown(one.conditions)}",
            f"{one.target.subject} / {one.target.over}" if one.target.over else one.target.subject,
            one.target.wish,
            f"{_number(one.spread.median)}" if one.spread else "not measured",
            f"{_number(one.spread.least)} … {_number(one.spread.most)}" if one.spread else "",
            ("met" if one.met else "missed") if one.spread else "",
        ]
        for one in summary.targets
    ]
    return "\n\n".join(
        [_markdown(head, lines), _markdown(["target", "of", "wanted", "median", "min … max", ""], targets)]
    )


def _shown(conditions: dict[str, Condition]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in conditions.items())})" if conditions else ""


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[place]) for line in [head, *lines]) for place in range(len(head))]
    shown = [head, ["-" * width for width in widths], *lines]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in shown
    )
