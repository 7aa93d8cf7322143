"""A timeline as HTML: a row for each client, its life in SVG; the same as a table; and what the signs mean.

Places on the time axis are percentages, so a drawing fits any width without being scaled: strokes, signs and
letters keep their size. What a pointer or the arrow keys show of a span or a moment is in its `data-t`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from harness.model.expect import Word
from harness.model.trace import What
from harness.report.markup import Child, Markup, el
from harness.report.timeline import TICKS, Moment, Row, Span, State, Timeline
from harness.report.words import cut, seconds

ROOMY = 16
"""Up to so many rows are drawn at full height."""

_MOMENT_SHAPES = {
    What.FACT: ("fact", "told a fact"),
    What.REFUSED: ("refused", "refused"),
    What.WRONG: ("wrong", "read wrong data"),
    What.STALE: ("stale", "read a stale reply"),
    What.LOST: ("lost", "lost its connection"),
    What.LEFT: ("left", "left"),
    What.ENDED: ("ended", "ended by the coordinator"),
}
_STATE_NAMES = {
    State.CONNECTING: "connecting",
    State.WAITING: "waiting: no answer told yet",
    State.SERVED: "being served",
    State.PAUSED: "waits for another group, as planned",
    State.HOLDING: "holds its connection",
}


class _Height(msgspec.Struct, frozen=True):
    """Pixels of a row, and of a full bar in it."""

    row: int
    bar: int

    @property
    def middle(self) -> int:
        return self.row // 2


_FULL, _COMPACT = _Height(22, 12), _Height(14, 8)


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
    names = {
        "fact": [0],
        "refused": [1, 2],
        "wrong": [3],
        "stale": [4],
        "lost": [5],
        "left": [6],
        "ended": [7],
    }
    signs = [el("g", *(shapes[n] for n in which), id=f"m-{name}") for name, which in names.items()]
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


def drawing(drawn: Timeline, name: str) -> Markup:
    """Axis and rows. `name` is unique in the page."""
    height = _FULL if len(drawn.rows) <= ROOMY else _COMPACT
    grid = f"grid-{name}"
    rows = [_row(row, drawn.length, height, grid) for row in drawn.rows]
    count = len(drawn.rows)
    says = (
        f"Timeline of {count} client{'s' if count > 1 else ''} over {seconds(drawn.length)}. "
        "Arrow keys go from event to event; the table below says the same."
    )
    lines = el(
        "div",
        _axis(drawn.length, grid, height.row),
        *rows,
        class_="timeline" if height is _FULL else "timeline compact",
        tabindex=0,
        role="group",
        aria_label=says,
    )
    return el("div", lines, _left_out(drawn), class_="drawing")


def _row(row: Row, length: float, height: _Height, grid: str) -> Markup:
    life = el(
        "svg",
        el("use", href=f"#{grid}"),
        *(_span(span, length, height) for span in row.spans),
        _ticks(row.ticks, height),
        *(_moment(moment, length, height) for moment in row.moments),
        class_="life",
        height=height.row,
        aria_hidden="true",
    )
    return el(
        "div",
        el("span", row.end.client, class_="who", title=row.end.client),
        life,
        el("span", *_end(row), class_=f"end {row.end.end}"),
        class_="line",
    )


def _end(row: Row) -> Iterator[Child]:
    yield str(row.end.end)
    if row.end.end is Word.SERVED:
        yield el("small", " waited") if row.end.waited else None
        yield None if row.end.intact else el("small", " not intact")


def _span(span: Span, length: float, height: _Height) -> Markup:
    """Height and fill tell the states apart; colour only helps."""
    part = {State.SERVED: 1.0, State.WAITING: 1.0, State.HOLDING: 0.5}.get(span.state, 0.25)
    tall = height.bar * part
    return el(
        "rect",
        class_=f"s-{span.state}",
        x=_percent(span.start, length),
        width=_percent(span.end - span.start, length),
        y=_number(height.middle - tall / 2),
        height=_number(tall),
        data_t=span.text,
    )


def _ticks(places: tuple[int, ...], height: _Height) -> Markup | None:
    """All in one path, in a picture of its own that is stretched; the strokes are not."""
    if not places:
        return None
    return el(
        "svg",
        el("path", d="".join(f"M{place} 0V1" for place in places), class_="tick"),
        viewBox=f"0 0 {TICKS} 1",
        preserveAspectRatio="none",
        y=height.middle,
        width="100%",
        height=height.bar // 2,
    )


def _moment(moment: Moment, length: float, height: _Height) -> Markup:
    shape, _ = _MOMENT_SHAPES[moment.what]
    return el(
        "use",
        href=f"#m-{shape}",
        x=_percent(moment.at, length),
        y=height.middle,
        class_=f"m-{shape}",
        data_t=moment.text,
    )


def ticks(length: float) -> list[float]:
    """Round numbers from 0 to `length`, at most seven."""
    step = next(
        base * 10.0**power
        for power in range(-4, 12)
        for base in (1, 2, 5)
        if base * 10.0**power * 6 >= length
    )
    return [round(number * step, 6) for number in range(int(length / step + 1e-9) + 1)] if length else [0.0]


def _axis(length: float, grid: str, height: int) -> Markup:
    """The numbers, and the lines that each row shows behind it."""
    places = ticks(length)
    lines = [el("line", x1=_percent(at, length), x2=_percent(at, length), y1=0, y2=height) for at in places]
    digits = max(0, min(4, len(f"{places[1]:.4f}".rstrip("0").partition(".")[2]))) if len(places) > 1 else 0
    labels = []
    for at in places:
        anchor = "start" if at == 0 else "end" if at > 0.94 * length else "middle"
        text = f"{at:.{digits}f}" + (" s" if at == places[-1] else "")
        labels.append(el("text", text, x=_percent(at, length), y=11, text_anchor=anchor))
    shown = el("svg", el("defs", el("g", *lines, id=grid, class_="grid")), *labels, class_="life", height=16)
    return el(
        "div",
        el("span", class_="who"),
        shown,
        el("span", class_="end"),
        class_="line axis",
        aria_hidden="true",
    )


def _left_out(drawn: Timeline) -> Markup | None:
    if not drawn.left_out:
        return None
    words = ", ".join(f"{count} of {kind}" for kind, count in drawn.left_out.items())
    return el("p", f"Not drawn: {words}.", class_="note")


def legend(drawings: Sequence[Timeline]) -> Markup | None:
    """What occurs in these."""
    rows = [row for drawn in drawings for row in drawn.rows]
    states = {span.state for row in rows for span in row.spans}
    whats = {moment.what for row in rows for moment in row.moments}
    entries = [_key(_sample(state), text) for state, text in _STATE_NAMES.items() if state in states]
    if any(row.ticks for row in rows):
        entries.append(
            _key(el("line", x1=9, x2=9, y1=3, y2=12, class_="tick"), "bytes moved, or a round trip")
        )
    for what, (shape, text) in _MOMENT_SHAPES.items():
        if what in whats:
            entries.append(_key(el("use", href=f"#m-{shape}", x=9, y=7, class_=f"m-{shape}"), text))
    return el("ul", *entries, class_="legend", aria_hidden="true") if entries else None


def _sample(state: State) -> Markup:
    return _span(Span(state, 0, 1, ""), 1, _Height(14, 12))


def _key(sign: Markup, text: str) -> Markup:
    return el("li", el("svg", sign, width=18, height=14), text)


_COLUMNS = {
    What.CONNECTING: "connecting",
    What.CONNECTED: "connected",
    What.ASKED: "asked",
    What.ANSWERED: "first answer",
    What.HOLDING: "holding",
}


def table(drawn: Timeline) -> Markup:
    """The text alternative, folded: when each client first came to each point, and how it ended."""
    head = el(
        "tr",
        el("th", "client", scope="col"),
        *(el("th", name, scope="col", class_="n") for name in _COLUMNS.values()),
        el("th", "steps done", scope="col", class_="n"),
        el("th", "over", scope="col", class_="n"),
        el("th", "how it ended", scope="col"),
    )
    whole = el("table", el("thead", head), el("tbody", *map(_numbers, drawn.rows)), class_="numbers")
    wide = el("div", whole, class_="wide", tabindex=0, role="region", aria_label="Clients")
    return el("details", el("summary", "The same as a table"), wide)


def _numbers(row: Row) -> Markup:
    cells = [_time(row.first.get(what)) for what in _COLUMNS]
    said = [moment.text for moment in row.moments if moment.what is What.FACT]
    why = cut(row.end.why, 300)
    why = "; ".join([why if why.startswith(f"was {row.end.end}") else f"{row.end.end}: {why}", *said])
    return el(
        "tr",
        el("th", row.end.client, scope="row"),
        *cells,
        el("td", f"{row.done} of {row.steps}", class_="n"),
        _time(row.over),
        el("td", why, class_="why"),
    )


def _time(at: float | None) -> Markup:
    return el("td", "–" if at is None else f"{at:.2f}", class_="n")


def _percent(part: float, whole: float) -> str:
    return f"{_number(100 * part / whole if whole else 0)}%"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
