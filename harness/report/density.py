"""What a multiplexing proxy costs in memory: drawn beside the page's figure, and as a table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.judge import density as judge
from harness.judge.density import MB, DensityVerdict, Estimate
from harness.model.density import PAGE_MB, Density, Memory
from harness.model.errors import UsageError
from harness.report.drawing import ticks
from harness.report.markup import Child, Markup, el, join
from harness.report.results import Results
from harness.report.section import Section

_HEIGHT = 220
_FOOT = 34
_STRETCHED = 1000
"""Units of a picture that is stretched to the plot's width, for what percentages can't draw."""

HEADINGS = ("PSS", "USS")

_NAMES = {
    "proxy": "one more proxy: its own process",
    "proxied": "one more pod, a proxy beside it",
    "plain": "one more pod without",
    "difference": "with minus without, pair by pair",
}


class _Line(msgspec.Struct, frozen=True):
    """Values at 1, 2, … pods; `css` names how it looks; `cone`, the slope whose interval is shaded."""

    text: str
    css: str
    values: Sequence[float]
    cone: Estimate | None = None
    points: bool = True

    @property
    def ends(self) -> tuple[float, ...]:
        """Where the cone ends that begins at the first value: high and low; nothing without one."""
        steps = len(self.values) - 1
        slopes = (self.cone.high, self.cone.low) if self.cone else ()
        return tuple(self.values[0] + steps * slope for slope in slopes)


def judged(results: Results) -> list[tuple[Density, DensityVerdict]]:
    """Each measurement of the run with what comes of it; what can't be judged is left out."""
    found = []
    for density in results.density:
        try:
            found.append((density, judge.judge(density)))
        except UsageError:
            continue
    return found


def density(results: Results) -> Section | None:
    """A drawing and two tables for each measurement."""
    parts = [_measurement(*one) for one in judged(results)]
    return Section("density", "Memory per pod", join(parts)) if parts else None


def rows(verdict: DensityVerdict) -> list[tuple[str, str, str]]:
    """What is measured, and its PSS and USS in MB, with 95 % confidence intervals where there are any."""
    pss, uss = verdict.pss, verdict.uss
    alone = verdict.alone
    return [(text, str(getattr(pss, name)), str(getattr(uss, name))) for name, text in _NAMES.items()] + [
        ("a proxy alone, or without shared text", f"{alone.pss / MB:.2f}", f"{alone.uss / MB:.2f}"),
        ("one proxy of many, in use", str(verdict.used_pss), str(verdict.used_uss)),
    ]


def _measurement(found: Density, verdict: DensityVerdict) -> Markup:
    pods = len(found.steps)
    totals = judge.by_pss(found)
    page = [PAGE_MB * count for count in range(1, pods + 1)]
    uss = judge.by_uss(found)
    proxy = [
        _Line(f"the page: {PAGE_MB} MB a pod", "page", page, points=False),
        _Line(
            "pods with minus pods without, PSS", "difference", totals["difference"], verdict.pss.difference
        ),
        _Line("the proxies' own processes, PSS", "pss", totals["proxy"], verdict.pss.proxy),
        _Line("the proxies' own processes, USS", "uss", uss["proxy"]),
    ]
    whole = [
        _Line("with a proxy, PSS", "proxied", totals["proxied"]),
        _Line("without, PSS", "plain", totals["plain"]),
    ]
    return el(
        "article",
        el("h3", "What a multiplexing proxy adds"),
        _chart(proxy, pods, "MB of memory that proxies add, by number of pods; the table says the same."),
        el("h3", "Whole pods, QEMU and proxy"),
        _chart(
            whole, pods, "MB of memory of all pods of a kind, by number of pods; the table says the same."
        ),
        _table(verdict),
        el("p", _about(found, verdict.alone), class_="note"),
        class_="density",
    )


def _about(found: Density, alone: Memory) -> str:
    return (
        f"Pairs of pods, equal but for the proxy {found.proxy!r} beside one of them, one pair after another; "
        "all are settled, then paused, before memory is read, and none has huge pages. "
        "MB are millions of bytes; shaded and in brackets: 95 % "
        "confidence. PSS counts a page that n processes map as its nth part, USS only what no other process "
        "maps. A proxy alone pays for its text alone, so it looks dear; one of many looks cheap where each "
        "has a copy of the program. Proxies of other workers on this host share the text as well: one alone "
        "then reads too low, one more too high; for figures run it alone. "
        f"{len(found.used)} were in use: {found.clients} clients each, which had "
        f"moved {found.echoed // 1000} kB both ways. The page's figure is the RSS of its own proxy, "
        f"idle; this one's is {alone.rss / MB:.1f} MB. "
        "What the kernel keeps for a process, a port or a vsock device is in none of these figures. "
        f"Host's kernel {found.host_kernel}, guests' {found.guest_kernel}, QEMU {found.qemu}."
    )


def _chart(lines: Sequence[_Line], pods: int, says: str) -> Markup:
    """Lines over numbers of pods. Dashes and shapes tell them apart; colour only helps."""
    values = [value for line in lines for value in (*line.values, *line.ends)]
    scale = _Scale(pods, 1.04 * min(0.0, *values), 1.04 * max(values))
    heights = [(at, scale.y(at)) for at in scale.ticks()]
    grid = [el("line", x1=0, x2="100%", y1=y, y2=y, class_=None if at else "zero") for at, y in heights]
    labels = [
        el("text", f"{at:g}".replace("-", "−"), x="100%", y=y + 4, text_anchor="end") for at, y in heights
    ]
    numbers = [
        el("text", str(count), x=scale.x(count), y=_HEIGHT + 17, text_anchor="middle")
        for count in range(1, pods + 1)
    ]
    plot = el(
        "svg",
        el("g", *grid, class_="grid"),
        *(part for line in lines for part in _drawn(line, scale)),
        *numbers,
        el("text", "pods of each kind", x="100%", y=_HEIGHT + 31, text_anchor="end"),
        class_="plot",
        height=_HEIGHT + _FOOT,
    )
    side = el("svg", *labels, el("text", "MB", x="100%", y=-10, text_anchor="end"), height=_HEIGHT + _FOOT)
    legend = el("ul", *(_key(line) for line in reversed(_by_height(lines))), class_="legend")
    return el(
        "div", el("div", side, plot, class_="axes", role="img", aria_label=says), legend, class_="chart"
    )


def _by_height(lines: Sequence[_Line]) -> list[_Line]:
    return sorted(lines, key=lambda line: line.values[-1])


class _Scale(msgspec.Struct, frozen=True):
    """From numbers of pods and MB to places in the plot. `low` is at its foot, `high` at its top."""

    pods: int
    low: float
    high: float

    def x(self, count: int) -> str:
        """Where so many pods are: in the middle of an equal part for each."""
        return f"{100 * (count - 0.5) / self.pods:.2f}%"

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT * (1 - share), 1)

    def path(self, places: Sequence[tuple[int, float]]) -> str:
        """A line in a picture of `_STRETCHED` by `_HEIGHT` units."""
        points = ((count - 0.5) / self.pods * _STRETCHED for count, _ in places)
        return "M" + "L".join(
            f"{x:.1f} {self.y(value)}" for x, (_, value) in zip(points, places, strict=True)
        )

    def ticks(self) -> list[float]:
        """Round numbers, 0 among them, with equal steps between them."""
        up = ticks(self.high - self.low)
        return [-at for at in up[:0:-1] if -at >= self.low] + [at for at in up if at <= self.high]


def _drawn(line: _Line, scale: _Scale) -> list[Child]:
    """The interval's cone from the first value on, the line, the points."""
    stretched: list[Child] = []
    if line.ends:
        corners = [(1, line.values[0]), *((scale.pods, end) for end in line.ends)]
        stretched.append(el("path", d=scale.path(corners) + "Z", class_="cone"))
    stretched.append(el("path", d=scale.path(list(enumerate(line.values, 1))), class_="stroke"))
    picture = el(
        "svg",
        *stretched,
        viewBox=f"0 0 {_STRETCHED} {_HEIGHT}",
        preserveAspectRatio="none",
        width="100%",
        height=_HEIGHT,
    )
    points = [
        _point(line.css, scale.x(count), str(scale.y(value)))
        for count, value in enumerate(line.values, 1)
        if line.points
    ]
    return [el("g", picture, *points, class_=f"d-{line.css}")]


def _point(css: str, x: str, y: str) -> Markup:
    if css in ("pss", "plain"):
        return el("svg", el("path", d="M-4-4H4V4H-4Z"), x=x, y=y, overflow="visible", class_="point")
    return el("circle", cx=x, cy=y, r=4.5, class_="point")


def _key(line: _Line) -> Markup:
    stroke = el("path", d="M0 7H26", class_="stroke")
    point = _point(line.css, "13", "7") if line.points else None
    return el("li", el("svg", stroke, point, width=26, height=14, class_=f"d-{line.css}"), line.text)


def _table(verdict: DensityVerdict) -> Markup:
    head = el(
        "tr", el("th", "MB", scope="col"), *(el("th", name, scope="col", class_="n") for name in HEADINGS)
    )
    body = [
        el("tr", el("th", text, scope="row"), *(el("td", _together(cell), class_="n") for cell in cells))
        for text, *cells in rows(verdict)
    ]
    table = el("table", el("thead", head), el("tbody", *body), class_="numbers")
    return el("div", table, class_="wide", tabindex=0, role="region", aria_label="Memory per pod")


def _together(text: str) -> str:
    """An interval, not broken over lines."""
    return text.replace(" … ", "\u00a0…\u00a0")
