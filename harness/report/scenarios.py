"""Each scenario: what it is, and for each link what was expected, what was seen, and the trace drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from harness.model.expect import Word
from harness.report.drawing import Texts, drawing, legend, table
from harness.report.markup import Child, Markup, el, join
from harness.report.phases import phases
from harness.report.results import CaseOutcome, Item, Results, Subject
from harness.report.section import Section, badge, unusual
from harness.report.timeline import Timeline, timeline
from harness.report.words import Count, Part, cut, expected, plain, seen, workload

_LONGEST = 4000
"""Characters of one failure's text that are shown."""

_MEANS = {
    Word.SERVED: "every step of its workload was answered",
    Word.WAITING: "nothing came until the run ended it",
    Word.REFUSED: "its connect() failed",
    Word.GARBLED: "read wrong data, or what belongs to no answer of its own",
    Word.STALE: "read the answer to a request that another client had made",
    Word.LOST: "its connection ended, or answers ceased, before it was done",
    Word.INTACT: "served, and every byte that came back was compared",
    Word.WAITED: "served, but only once another client had left",
}
"""As docs/scenarios.md has it at length."""

_MET = {
    "sees": "what the first call that failed gave: an errno, or eof, the stream's end; nothing if none did",
    "next-send": "what one more send() gave: ok, blocked (it would wait), or an errno",
    "then": "its connection, once the fault is over as far as it ever is: served (answers again), "
    "silent (no answer), gone (ended before)",
    "reconnect": "the same of a new connection, or the errno of its connect()",
    "guest": "what the guest's kernel told the agent of that connection",
    "containers": "how many of those that clients had started run afterwards",
}
"""As docs/scenarios.md has it at length."""

_READ_MOST = ("console.log", "proxy.log", "trace.jsonl")
"""Of an item's files."""

_INTACT = re.compile(r", intact \d+")
"""Often not stated, as it goes without saying."""


def scenarios(results: Results) -> Section | None:
    """All of them, by claim."""
    names = list(dict.fromkeys(item.subject.scenario for item in results.items))
    by_name = {name: [item for item in results.items if item.subject.scenario == name] for name in names}
    drawn = {
        item.subject: timeline(item.plan, item.trace, item.verdict.ends)
        for item in results.items
        if item.plan and item.verdict and item.trace
    }
    texts = Texts()
    parts = [_words(results)]
    claim = None
    for own in by_name.values():
        if claim is not own[0].subject.claim:
            claim = own[0].subject.claim
            parts.append(el("p", el("b", claim, class_="tag"), " ", claim.sentence))
        parts.append(_article(own, drawn, texts))
    parts += filter(None, [legend(list(drawn.values())), texts.listed()])
    return Section("scenarios", "Scenarios", join(parts)) if by_name else None


def _words(results: Results) -> Markup:
    """How the drawings are read, and what is said of clients, in few words."""
    how = (
        "Each row is one client's life, from its connect() to its end. Point at a part of it, or go from "
        "part to part with the arrow keys, to see when it was and what was told. Of what passed only the "
        "files read most are linked; beside them are the others."
    )
    words = [_meanings("What is said of a client", {str(word): text for word, text in _MEANS.items()})]
    if any(item.plan and item.plan.fault for item in results.items):
        words.append(_meanings("What is said of one that meets a fault", _MET))
    return el("div", el("p", how, class_="note"), *words)


def _meanings(title: str, texts: Mapping[str, str]) -> Markup:
    said = ((el("dt", word), el("dd", text)) for word, text in texts.items())
    return el("details", el("summary", title), el("dl", *said, class_="words"))


def anchor(subject: Subject) -> str:
    """The id of a scenario on a link in the page."""
    name = re.sub(r"[^\w.-]", "-", subject.scenario, flags=re.ASCII)
    return f"{name}--{subject.link}"


def address(*parts: str) -> str:
    """A relative address of a file in the results folder, whatever it is called."""
    return quote("./" + "/".join(parts), safe="/")


def _article(items: Sequence[Item], drawn: Mapping[Subject, Timeline], texts: Texts) -> Markup:
    first = items[0]
    by_link = {str(item.subject.link): drawn[item.subject] for item in items if item.subject in drawn}
    return el(
        "article",
        el("h3", first.title, " ", el("code", first.subject.scenario)),
        el("p", first.about, class_="about") if first.about else None,
        *_workloads(items),
        *(_link(item, drawn.get(item.subject), texts) for item in items),
        table(by_link),
    )


def _workloads(items: Sequence[Item]) -> Iterator[Markup]:
    """Who does what, once for all links on which it is the same."""
    plans: dict[str, list[str]] = {}
    for item in items:
        if item.plan:
            plans.setdefault(workload(item.plan), []).append(item.subject.link)
    for plan, links in plans.items():
        where = f"{', '.join(links)}: " if len(plans) > 1 else ""
        yield el("p", where, plan, class_="workload")


def _link(item: Item, drawn: Timeline | None, texts: Texts) -> Markup:
    """One link's part of a scenario."""
    return el(
        "section",
        el(
            "div",
            el("h4", item.subject.link, " ", el("small", item.subject.link.backend)),
            badge(item.outcome),
            _compared(item),
            class_="top",
        ),
        _differences(item),
        drawing(drawn, texts) if drawn else None,
        *(el("p", line, class_="warning") for line in item.unreadable),
        _evidence(item),
        id=anchor(item.subject),
        class_=unusual(item.outcome),
    )


def _compared(item: Item) -> Markup | None:
    """What was expected and what was seen, a line for each group; once for what says the same. What does not
    fit is marked."""
    if item.verdict is None:
        return None
    wanted = {_INTACT.sub("", line): line for line in expected(item.plan, item.verdict)}
    same: list[Part] = []
    other: list[Part] = []
    for part in seen(item.plan, item.verdict):
        as_wanted = wanted.pop(_INTACT.sub("", plain([part])), None) is not None
        (same if as_wanted else other).append(part)
    said = (
        ("expected", wanted.values()),
        ("seen", map(_part, _alike(other))),
        ("as expected", map(_part, _alike(same))),
    )
    rows = ((name, [el("dd", line) for line in lines]) for name, lines in said)
    return el("dl", *((el("dt", name), *lines) for name, lines in rows if lines))


def _alike(parts: Iterable[Part]) -> Iterator[Part]:
    """Once for all groups of which the same is said."""
    names: dict[tuple[Count, ...], list[str]] = {}
    for part in parts:
        names.setdefault(part.counts, []).append(part.name)
    yield from (Part(", ".join(groups), counts) for counts, groups in names.items())


def _part(part: Part) -> Markup:
    counts = (
        count.text if count.fits else el("strong", "≠ ", count.text, class_="off") for count in part.counts
    )
    return join([f"{part.name}: " if part.name else "", join(counts, ", ")])


def _differences(item: Item) -> Markup | None:
    """The verdict's, the first one first; where it has none, what else went wrong, or why it was skipped."""
    found = item.differences
    if found:
        return el("ul", *(el("li", text) for text in found), class_="differences")
    text = item.case.told
    return el("pre", cut(text, _LONGEST), class_="trouble") if text else None


def _evidence(item: Item) -> Markup | None:
    """All of it where something is amiss, else what is read most. Then its times."""
    passed = item.outcome is CaseOutcome.PASSED
    named = [name for name in item.files if not passed or name in _READ_MOST]
    links = join([el("a", name, href=address(item.folder, name)) for name in named], " · ")
    spent = phases(item)
    told: list[Child] = [join(["Evidence: ", links])] if named else []
    told += [f"{spent}."] if spent else []
    return el("p", join(told, ". "), class_="evidence") if told else None
