"""A timeline as HTML: a row for each client, its life in SVG; the same as a table; and what the signs mean.

Places on the time axis are percentages, so a drawing fits any width without being scaled: strokes, signs and
letters keep their size. Heights, and what is the same in all rows, are the style's: a page has hundreds.
What the page's script shows of a span or a moment it makes from its class, its place, the timeline's `data-s`
(seconds) and its own `data-t`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.expect import Word
from harness.model.trace import What
from harness.report.markup import Child, Markup, el, join
from harness.report.timeline import AMISS, TICKS, Moment, Row, Span, State, Timeline
from harness.report.words import cut, seconds

_MOMENT_SHAPES = {
    What.FACT: ("fact", "told a fact"),
    What.REFUSED: ("refused", "refused"),
    What.WRONG: ("wrong", "read wrong data"),
    What.STALE: ("stale", "read a stale reply"),
    What.LOST: ("lost", "lost its connection"),
    What.LEFT: ("left", "left"),
    What.ENDED: ("ended", "ended by the run, all being over"),
}
_STATES = {
    State.CONNECTING: ("c", "connecting"),
    State.WAITING: ("w", "waiting: no answer yet"),
    State.SERVED: ("s", "being served"),
    State.PAUSED: ("p", "waits for others, as planned"),
    State.MEETING: ("m", "what the fault is to meet"),
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
    names = {
        "fact": [0],
        "refused": [1, 2],
        "wrong": [3],
        "stale": [4],
        "lost": [5],
        "left": [6],
        "ended": [7],
    }
    signs = [
        el("g", *(shapes[n] for n in which), id=f"m-{name}", class_=f"m-{name}")
        for name, which in names.items()
    ]
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


def drawing(drawn: Timeline) -> Markup:
    """Axis and rows."""
    count = len(drawn.rows)
    clients = f"{count} client{'s' if count > 1 else ''}"
    says = f"{clients} over {seconds(drawn.length)}; arrow keys go from event to event"
    lines = el(
        "div",
        _axis(drawn.length),
        *(_row(row, drawn.length) for row in drawn.rows),
        class_="rows timeline",
        tabindex=0,
        role="img",
        aria_label=says,
        data_s=f"{drawn.length:.4f}",
    )
    return el("div", lines, _left_out(drawn), class_="drawing")


def _row(row: Row, length: float) -> Markup:
    spans = [_span(span, length) for span in row.spans]
    life = el("svg", *spans, _ticks(row.ticks), *(_moment(moment, length) for moment in row.moments))
    client = row.end.client
    title = client if len(client) > _WHOLE else None
    return el("p", el("span", client, title=title), life, el("span", *_end(row)))


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
        data_t=span.text or None,
    )


def _ticks(places: tuple[int, ...]) -> Markup | None:
    """All in one path, in a picture of its own that is stretched; the strokes are not."""
    if not places:
        return None
    path = el("path", d="".join(f"M{place},0v1" for place in places))
    return el("svg", path, viewBox=f"0 0 {TICKS} 1", preserveAspectRatio="none")


def _moment(moment: Moment, length: float) -> Markup:
    shape, _ = _MOMENT_SHAPES[moment.what]
    return el("use", href=f"#m-{shape}", x=_percent(moment.at, length), data_t=moment.text or None)


def ticks(length: float) -> list[float]:
    """Round numbers from 0 to `length`, at most seven."""
    step = next(
        base * 10.0**power
        for power in range(-4, 12)
        for base in (1, 2, 5)
        if base * 10.0**power * 6 >= length
    )
    return [round(number * step, 6) for number in range(int(length / step + 1e-9) + 1)] if length else [0.0]


def _axis(length: float) -> Markup:
    """Behind all rows: the numbers above them, and a line down from each."""
    places = ticks(length)
    digits = max(0, min(4, len(f"{places[1]:.4f}".rstrip("0").partition(".")[2]))) if len(places) > 1 else 0
    texts = (f"{at:.{digits}f}" + (" s" if at == places[-1] else "") for at in places)
    return axis({_percent(at, length): text for at, text in zip(places, texts, strict=True)})


def axis(labels: dict[str, str]) -> Markup:
    """What a block of rows has behind them: by place in percent, a number and a line."""
    return el("svg", *(join([el("rect", x=x), el("text", text, x=x)]) for x, text in labels.items()))


def _left_out(drawn: Timeline) -> Markup | None:
    if not drawn.left_out:
        return None
    words = ", ".join(f"{count} × {kind}" for kind, count in drawn.left_out.items())
    return el("p", f"Not drawn, for they ended like some of these: {words}.", class_="note")


def legend(drawings: Sequence[Timeline]) -> Markup | None:
    """What occurs in these."""
    rows = [row for drawn in drawings for row in drawn.rows]
    states = {span.state for row in rows for span in row.spans}
    whats = {moment.what for row in rows for moment in row.moments}
    entries = [
        _key(el("rect", class_=css, width=18), text)
        for state, (css, text) in _STATES.items()
        if state in states
    ]
    if any(row.ticks for row in rows):
        entries.append(_key(el("path", d="M9,3v9"), "bytes moved, or a round trip"))
    for what, (shape, text) in _MOMENT_SHAPES.items():
        if what in whats:
            entries.append(_key(el("use", href=f"#m-{shape}", x=9), text))
    return el("ul", *entries, class_="legend", aria_hidden="true") if entries else None


def _key(sign: Markup, text: str) -> Markup:
    return el("li", el("svg", sign), text)


_COLUMNS = {
    What.CONNECTING: "connecting",
    What.CONNECTED: "connected",
    What.ANSWERED: "first answer",
}


def table(drawn: Timeline) -> Markup:
    """The text alternative, folded: when each client first came to each point, and how it ended."""
    names = ("client", *_COLUMNS.values(), "steps done", "over", "how it ended")
    head = el("tr", *(el("th", name) for name in names))
    whole = el("table", el("thead", head), el("tbody", *map(_numbers, drawn.rows)), class_="told")
    return el("details", el("summary", "As a table"), whole)


def _numbers(row: Row) -> Markup:
    cells = [_time(row.first.get(what)) for what in _COLUMNS]
    said = [moment.text.partition(";")[2] for moment in row.moments if moment.what is What.FACT]
    why = cut(row.end.why, 300)
    why = "; ".join([why if why.startswith(f"was {row.end.end}") else f"{row.end.end}: {why}", *said])
    done = el("td", f"{row.done} of {row.steps}")
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
