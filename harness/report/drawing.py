"""A timeline as HTML: a row for each client, its life in SVG; the same as a table; and what the signs mean.

A page has hundreds of rows, so one picture has the bars of all rows of a timeline, a path for each state. It
is stretched to the rows' width and height (`across` units wide, one high for each row); its strokes are not,
so bars keep their height. Signs that are no stroke are in a picture beside it that isn't stretched, their
places in percent. Heights, and what is the same in all rows, are the style's.
What the page's script shows of a span or a moment it makes from its path's class, its place, the timeline's
`data-s` (seconds) and `data-t`: for each row's spans, then its moments, in order of place, and at one place
in that of `_SIGNS`, the number of a text, which `Texts` has once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from harness.model.expect import Word
from harness.model.trace import What
from harness.report.markup import Child, Markup, el, join
from harness.report.timeline import AMISS, TICKS, Row, State, Timeline
from harness.report.words import cut, seconds

_SIGNS = {
    What.FACT: ("f", "told what it saw"),
    What.LEFT: ("q", "left"),
    What.ENDED: ("e", "ended by the run"),
    What.REFUSED: ("r", "refused"),
    What.WRONG: ("x", "read wrong data"),
    What.STALE: ("t", "read a stale reply"),
    What.LOST: ("l", "lost its connection"),
}
"""Class or id, and meaning; the script and the style have these, too. The first three are strokes."""

_STROKES = {What.FACT: ("f",), What.LEFT: ("q", "q i"), What.ENDED: ("e",)}
"""Signs that a stroke can be: of length 0 with round ends, a ring as one upon another, a short high one."""

_STATES = {
    State.CONNECTING: ("c", "connecting"),
    State.WAITING: ("w", "waiting: no answer yet"),
    State.SERVED: ("s", "being served"),
    State.PAUSED: ("p", "waits for others, as planned"),
    State.MEETING: ("m", "meets the fault"),
    State.HOLDING: ("h", "done, holds its connection"),
}
"""Class and meaning; the script has the classes, too."""


def definitions() -> Markup:
    """The signs that are no stroke, which all drawings use; once a page."""
    made = {
        What.REFUSED: [
            el("circle", r=4.5, fill="none", stroke="currentColor", stroke_width=1.6),
            el("path", d="M-3.2-3.2 3.2 3.2", stroke="currentColor", stroke_width=1.6),
        ],
        What.WRONG: [el("path", d="M0-5.2 5.2 4.2H-5.2z")],
        What.STALE: [el("path", d="M0-5.2 5.2 0 0 5.2-5.2 0z")],
        What.LOST: [el("path", d="M-4-4 4 4M-4 4 4-4", stroke="currentColor", stroke_width=2.2)],
    }
    signs = [el("g", *which, id=_SIGNS[what][0]) for what, which in made.items()]
    return el("svg", el("defs", *signs), class_="hidden", aria_hidden="true")


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
    lives = [_Life(row, drawn.length) for row in rows]
    told = (texts.number(text) for life in lives for text in life.texts)
    return el(
        "div",
        _numbers_and_signs(lives, drawn.length),
        _bars(lives, drawn.length),
        *(_row(row) for row in rows),
        class_="rows timeline bars",
        role="img",
        aria_label=f"{clients} over {seconds(drawn.length)}",
        data_s=f"{drawn.length:.4f}".rstrip("0"),
        data_t=",".join("" if number is None else str(number) for number in told).rstrip(",") or None,
    )


def _more(rows: Sequence[Row], drawn: Timeline, texts: Texts) -> Markup | None:
    if not rows:
        return None
    counts = Counter(f"{row.end.client.rpartition('/')[0]} {row.end.end}" for row in rows)
    words = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    return el("details", el("summary", f"{len(rows)} more: {words}"), _lines(rows, drawn, texts))


def across(length: float) -> int:
    """How many units a timeline of so many seconds is wide: less than a pixel each, and 0.01 s of 100 s."""
    return 1000 if length <= 10 else 10000


class _Life:
    """A row's spans, moments and ticks, in whole units; none of them without a width, or twice in a place."""

    def __init__(self, row: Row, length: float) -> None:
        unit = length / across(length) or 1.0
        spans = [(round(span.start / unit), round(span.end / unit), span) for span in row.spans]
        seen = [one for one in spans if one[0] < one[1]]
        order = list(_SIGNS)
        moments = [(round(moment.at / unit), moment) for moment in row.moments]
        moments.sort(key=lambda one: (one[0], order.index(one[1].what)))
        self.spans = [(span.state, start, end - start) for start, end, span in seen]
        self.moments = [(moment.what, at) for at, moment in moments]
        self.texts = [span.text for *_, span in seen] + [moment.text for _, moment in moments]
        place = across(length) // TICKS
        edges = {edge for start, end, _ in seen for edge in (start, end)}
        self.ticks = [at for at in (tick * place for tick in row.ticks) if not edges & _beside(at, place)]


def _beside(at: int, place: int) -> frozenset[int]:
    """Where the edge of a bar hides a tick."""
    return frozenset(range(at - place // 2, at + place // 2 + 1))


def _bars(lives: Sequence[_Life], length: float) -> Markup:
    """All that is a stroke, what lies above other things last."""
    paths: dict[str, list[str]] = {"g": [f"M{at},-.5v{len(lives)}" for at in _grid(length).values()]}
    for state, (css, _) in _STATES.items():
        paths[css] = [
            f"M{at},{number}h{width}"
            for number, life in enumerate(lives)
            for known, at, width in life.spans
            if known is state
        ]
    tick = across(length) // 1000
    paths["k"] = [f"M{at},{number}h{tick}" for number, life in enumerate(lives) for at in life.ticks]
    for what, layers in _STROKES.items():
        places = [
            f"M{at},{number}h{-3 * tick if what is What.ENDED else 0}"
            for number, life in enumerate(lives)
            for known, at in life.moments
            if known is what
        ]
        paths |= dict.fromkeys(layers, places)
    return el(
        "svg",
        *(el("path", class_=css, d="".join(places)) for css, places in paths.items() if places),
        viewBox=f"0 -.5 {across(length)} {len(lives)}",
        preserveAspectRatio="none",
    )


def _row(row: Row) -> Markup:
    client = row.end.client
    title = client if len(client) > _WHOLE else None
    end = [part for part in _end(row) if part is not None]
    said = end[0] if len(end) == 1 and isinstance(end[0], str) else el("span", *end)
    return el("p", el("b", client, title=title), said)


_WHOLE = 14
"""Letters of a client's name for which there is room beside its row."""


def _end(row: Row) -> Iterator[Child]:
    word = row.end.end
    yield el("b", word) if word in AMISS else word
    if word is Word.SERVED:
        yield el("small", " waited") if row.end.waited else None
        yield None if row.end.intact else el("small", " not intact")


def ticks(length: float, most: int = 7) -> list[float]:
    """Round numbers from 0 to `length`, at most `most`."""
    step = next(
        base * 10.0**power
        for power in range(-4, 12)
        for base in (1, 2, 5)
        if base * 10.0**power * (most - 1) >= length
    )
    return [round(number * step, 6) for number in range(int(length / step + 1e-9) + 1)] if length else [0.0]


def _grid(length: float) -> dict[str, int]:
    """Round seconds: what stands above each, and its place."""
    places = ticks(length, 5)
    digits = max(0, min(4, len(f"{places[1]:.4f}".rstrip("0").partition(".")[2]))) if len(places) > 1 else 0
    texts = ((f"{at:.{digits}f}" if at else "0") + (" s" if at == places[-1] else "") for at in places)
    return {
        text: round(at / length * across(length)) if length else 0
        for text, at in zip(texts, places, strict=True)
    }


def _numbers_and_signs(lives: Sequence[_Life], length: float) -> Markup:
    """What is not stretched: the numbers above, and the signs that are no strokes."""
    wide = across(length)
    labels = [el("text", text, x=_percent(at, wide)) for text, at in _grid(length).items()]
    signs = [
        el("use", href=f"#{_SIGNS[what][0]}", x=_percent(at, wide), y=_percent(number + 0.5, len(lives)))
        for number, life in enumerate(lives)
        for what, at in life.moments
        if what not in _STROKES
    ]
    return el("svg", *labels, *signs)


def legend(drawings: Sequence[Timeline]) -> Markup | None:
    """What occurs in these. It stays in sight beside all of them, where there is room."""
    rows = [row for drawn in drawings for row in drawn.rows]
    states = {span.state for row in rows for span in row.spans}
    whats = {moment.what for row in rows for moment in row.moments}
    entries = [
        _key([el("path", class_=css, d="M0,7h18")], text)
        for state, (css, text) in _STATES.items()
        if state in states
    ]
    if any(row.ticks for row in rows):
        entries.append(_key([el("path", d="M9,3v9")], "bytes moved, or a round trip"))
    for what, (sign, text) in _SIGNS.items():
        if what not in whats:
            continue
        if what in _STROKES:
            wide = -3 if what is What.ENDED else 0
            strokes = [el("path", class_=css, d=f"M9,7h{wide}") for css in _STROKES[what]]
            entries.append(_key(strokes, text))
        else:
            entries.append(_key([el("use", href=f"#{sign}", x=9)], text))
    return el("ul", *entries, class_="legend bars", aria_hidden="true") if entries else None


def _key(signs: Iterable[Markup], text: str) -> Markup:
    return el("li", el("svg", *signs), text)


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
    """Without the digits that say nothing: ``.3%``, ``12%``."""
    value = f"{100 * part / whole:.2f}".rstrip("0").rstrip(".")
    return f"{value.removeprefix('0') or '0'}%"
