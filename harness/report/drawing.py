"""A timeline as HTML: a row for each client, its life in SVG; the same as a table; and what the signs mean.

Places on the time axis are percentages, so a drawing fits any width without being scaled: strokes, signs and
letters keep their size. Heights, and what is the same in all rows, are the style's: a page has hundreds.
What the page's script shows of a span or a moment it makes from its class, its place, the timeline's `data-s`
(seconds) and `data-t`: for each of its marks in their order the number of a text, which `Texts` has once. A
span without a class is one of being served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from harness.model.expect import Word
from harness.model.trace import What
from harness.report.markup import Child, Markup, el, join
from harness.report.timeline import AMISS, TICKS, Moment, Row, Span, State, Timeline
from harness.report.words import cut, seconds

_MOMENT_SHAPES = {
    What.FACT: ("f", "told what it saw"),
    What.REFUSED: ("r", "refused"),
    What.WRONG: ("x", "read wrong data"),
    What.STALE: ("t", "read a stale reply"),
    What.LOST: ("l", "lost its connection"),
    What.LEFT: ("q", "left"),
    What.ENDED: ("e", "ended by the run"),
}
"""Ids and meaning; the script and the style have the ids, too."""

_STATES = {
    State.CONNECTING: ("c", "connecting"),
    State.WAITING: ("w", "waiting: no answer yet"),
    State.SERVED: (None, "being served"),
    State.PAUSED: ("p", "waits for others, as planned"),
    State.MEETING: ("m", "meets the fault"),
    State.HOLDING: ("h", "done, holds its connection"),
}
"""Class and meaning; the script has the classes, too."""


def definitions() -> Markup:
    """The signs and patterns that all drawings use; once a page."""
    shapes = [
        el("circle", r=3),
        el("circle", r=4.5, fill="none", stroke="currentColor", stroke_width=1.6),
        el("path", d="M-3.2-3.2 3.2 3.2", stroke="currentColor", stroke_width=1.6),
        el("path", d="M0-5.2 5.2 4.2H-5.2z"),
        el("path", d="M0-5.2 5.2 0 0 5.2-5.2 0z"),
        el("path", d="M-4-4 4 4M-4 4 4-4", stroke="currentColor", stroke_width=2.2),
        el("circle", r=3.4, fill="none", stroke="currentColor", stroke_width=2),
        el("path", d="M0-6V6", stroke="currentColor", stroke_width=2.4),
    ]
    made = {
        What.FACT: shapes[:1],
        What.REFUSED: shapes[1:3],
        What.WRONG: shapes[3:4],
        What.STALE: shapes[4:5],
        What.LOST: shapes[5:6],
        What.LEFT: shapes[6:7],
        What.ENDED: shapes[7:],
    }
    signs = [el("g", *which, id=_MOMENT_SHAPES[what][0]) for what, which in made.items()]
    stripes = el(
        "pattern",
        el("path", d="M-1 1 1-1M-1 7 7-1M5 7 7 5", stroke="currentColor", stroke_width=1.5),
        id="stripes",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        class_="stripes",
    )
    return el("svg", el("defs", *signs, stripes), class_="hidden", aria_hidden="true")


class Texts:
    """What the marks of a page tell. Many tell the same, so they have numbers, and the page has a list."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int | None:
        """Of this text, in the list; None if there is nothing to tell."""
        return self._numbers.setdefault(text, len(self._numbers)) if text else None

    def listed(self) -> Markup | None:
        """For the script only."""
        entries = (el("li", text) for text in self._numbers)
        return el("ol", *entries, id="texts", hidden=True) if self._numbers else None


def drawing(drawn: Timeline, texts: Texts) -> Markup:
    """Axis and rows, some of very many folded; what their marks tell is added to `texts`."""
    at_first = [row for row in drawn.rows if row.end.client not in drawn.folded]
    folded = [_coarse(row) for row in drawn.rows if row.end.client in drawn.folded]
    return join([_lines(at_first, drawn, texts), _more(folded, drawn, texts)])


_COARSE = 4
"""So many places for ticks are one where rows are many."""


def _coarse(row: Row) -> Row:
    places = dict.fromkeys(place - place % _COARSE for place in row.ticks)
    return msgspec.structs.replace(row, ticks=tuple(places))


def _lines(rows: Sequence[Row], drawn: Timeline, texts: Texts) -> Markup:
    count = len(rows)
    clients = f"{count} client{'s' if count > 1 else ''}"
    told = (texts.number(text) for row in rows for text in _told(row))
    return el(
        "div",
        _axis(drawn.length),
        *(_row(row, drawn.length) for row in rows),
        class_="rows timeline",
        role="img",
        aria_label=f"{clients} over {seconds(drawn.length)}",
        data_s=f"{drawn.length:.4f}".rstrip("0"),
        data_t=",".join("" if number is None else str(number) for number in told) or None,
    )


def _more(rows: Sequence[Row], drawn: Timeline, texts: Texts) -> Markup | None:
    if not rows:
        return None
    counts = Counter(f"{row.end.client.rpartition('/')[0]} {row.end.end}" for row in rows)
    words = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    return el("details", el("summary", f"{len(rows)} more: {words}"), _lines(rows, drawn, texts))


def _told(row: Row) -> Iterator[str]:
    """What its marks tell, in their order."""
    yield from (span.text for span in row.spans)
    yield from (moment.text for moment in row.moments)


def _row(row: Row, length: float) -> Markup:
    spans = [_span(span, length) for span in row.spans]
    moments = [_moment(moment, length) for moment in row.moments]
    life = el("svg", *spans, _ticks(row.ticks), *moments)
    client = row.end.client
    title = client if len(client) > _WHOLE else None
    return el("p", el("b", client, title=title), life, el("span", *_end(row)))


_WHOLE = 14
"""Letters of a client's name for which there is room beside its row."""


def _end(row: Row) -> Iterator[Child]:
    word = row.end.end
    yield el("b", word) if word in AMISS else word
    if word is Word.SERVED:
        yield el("small", " waited") if row.end.waited else None
        yield None if row.end.intact else el("small", " not intact")


def _span(span: Span, length: float) -> Markup:
    """Height and fill tell the states apart; colour only helps. No gap comes of rounding."""
    start, end = _rounded(span.start, length), _rounded(span.end, length)
    return el(
        "rect",
        class_=_STATES[span.state][0],
        x=f"{_number(start)}%",
        width=f"{_number(end - start)}%",
    )


_FEW = 5
"""Ticks of a row up to which one by one takes less than a picture."""


def _ticks(places: tuple[int, ...]) -> Markup | None:
    """Without a width, which tells them from spans. Many are one path, in a picture of its own that is
    stretched; the strokes are not."""
    if len(places) <= _FEW:
        return join(el("rect", x=_percent(place, TICKS)) for place in places)
    path = el("path", d="".join(f"M{place},5v12" for place in places))
    return el("svg", path, viewBox=f"0 0 {TICKS} 22", preserveAspectRatio="none")


def _moment(moment: Moment, length: float) -> Markup:
    shape, _ = _MOMENT_SHAPES[moment.what]
    return el("use", href=f"#{shape}", x=_percent(moment.at, length))


def ticks(length: float, most: int = 7) -> list[float]:
    """Round numbers from 0 to `length`, at most `most`."""
    step = next(
        base * 10.0**power
        for power in range(-4, 12)
        for base in (1, 2, 5)
        if base * 10.0**power * (most - 1) >= length
    )
    return [round(number * step, 6) for number in range(int(length / step + 1e-9) + 1)] if length else [0.0]


def _axis(length: float) -> Markup:
    """Behind all rows: the numbers above them, and a line down from each."""
    places = ticks(length, 5)
    digits = max(0, min(4, len(f"{places[1]:.4f}".rstrip("0").partition(".")[2]))) if len(places) > 1 else 0
    texts = ((f"{at:.{digits}f}" if at else "0") + (" s" if at == places[-1] else "") for at in places)
    shares = (round(100 * at / length, 1) if length else 0.0 for at in places)
    return axis({f"{_number(share)}%": text for share, text in zip(shares, texts, strict=True)})


def axis(labels: dict[str, str]) -> Markup:
    """What a block of rows has behind them: by place in percent, a number and a line."""
    return el("svg", *(join([el("rect", x=x), el("text", text, x=x)]) for x, text in labels.items()))


def legend(drawings: Sequence[Timeline]) -> Markup | None:
    """What occurs in these. It stays in sight beside all of them, where there is room."""
    rows = [row for drawn in drawings for row in drawn.rows]
    states = {span.state for row in rows for span in row.spans}
    whats = {moment.what for row in rows for moment in row.moments}
    entries = [
        _key(el("rect", width=18, class_=css), text)
        for state, (css, text) in _STATES.items()
        if state in states
    ]
    if any(row.ticks for row in rows):
        entries.append(_key(el("path", d="M9,3v9"), "bytes moved, or a round trip"))
    for what, (shape, text) in _MOMENT_SHAPES.items():
        if what in whats:
            entries.append(_key(el("use", href=f"#{shape}", x=9), text))
    return el("ul", *entries, class_="legend", aria_hidden="true") if entries else None


def _key(sign: Markup, text: str) -> Markup:
    return el("li", el("svg", sign), text)


_COLUMNS = {
    What.CONNECTING: "connecting",
    What.CONNECTED: "connected",
    What.ANSWERED: "first answer",
}


def table(drawings: Mapping[str, Timeline]) -> Markup | None:
    """The text alternative of drawings by name, folded: when each client came to each point, how it ended."""
    if not drawings:
        return None
    names = ("client", *_COLUMNS.values(), "steps done", "over", "how it ended")
    head = el("tr", *(el("th", name) for name in names))
    bodies = []
    for name, drawn in drawings.items():
        heading = el("tr", el("th", name, colspan=len(names), scope="rowgroup"))
        bodies.append(el("tbody", heading, *map(_numbers, drawn.rows)))
    return el("details", el("summary", "As a table"), el("table", el("thead", head), *bodies))


def _numbers(row: Row) -> Markup:
    cells = [_time(row.first.get(what)) for what in _COLUMNS]
    why = cut(row.end.why, 300)
    was = f"was {row.end.end}"
    why = why.removeprefix("was ") if why.startswith(was) else f"{row.end.end}: {why}"
    why = "; ".join([why, *row.told])
    done = el("td", f"{row.done}/{row.steps}")
    return el("tr", el("th", row.end.client), *cells, done, _time(row.over), el("td", why))


def _time(at: float | None) -> Markup:
    return el("td", "–" if at is None else f"{at:.2f}")


def _percent(part: float, whole: float) -> str:
    return f"{_number(_rounded(part, whole))}%"


def _rounded(part: float, whole: float) -> float:
    """Per cent, to less than a pixel and to 0.01 s of up to 100 s."""
    return round(100 * part / whole, 1 if whole <= 10 else 2) if whole else 0.0


def _number(value: float) -> str:
    """Without the digits that say nothing: ``.3``, ``12``."""
    return f"{value:.2f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
