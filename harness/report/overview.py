"""The top of the page: how the run ended, where and on what it ran; and below it what did not pass."""

from __future__ import annotations

from collections.abc import Iterable

from harness.host.pipes import PIPE_CLOSED
from harness.report.markup import Child, Markup, el, join
from harness.report.results import RUN, Case, CaseOutcome, Item, Results
from harness.report.scenarios import anchor
from harness.report.section import Section, css
from harness.report.words import SIGNS, WORST_FIRST, cut, number, seconds, stated, worst

_ENDINGS = {
    2: "The run was interrupted.",
    3: "The run ended with an internal error of pytest.",
    4: "The run was called wrongly.",
    5: "Nothing of the run could be run here.",
    PIPE_CLOSED: "Whoever read the run's output left, which ended the run.",
}
"""Exit codes that say more than that tests failed: pytest's, and ours for a closed pipe."""

_LEFT_AFTER = "Whoever read the run's output left when all tests had ended."

_SLOW = 3.0
"""From this slowness on absolute times say little."""

_NAMED = 3
"""Tests with torn evidence that are named at the top."""

_LONGEST = 4000
"""Characters of one failure's text that are shown."""


def header(results: Results) -> Markup:
    """Verdict, counts, and the facts of host, versions and times."""
    counts = results.counts
    total = sum(counts.values())
    outcome = whole_outcome(results)
    return el(
        "header",
        el("p", "vsock-harness report ", el("code", results.name), class_="name"),
        el("h1", el("span", SIGNS[outcome], aria_hidden="true", class_="sign"), heading(results)),
        el("p", results.choice, class_="left-out") if results.choice else None,
        *(el("p", line, class_="warning") for line in warnings(results)),
        _bar(counts, total),
        el("dl", *(_fact(name, value) for name, value in facts(results)), class_="facts"),
        class_=css(outcome),
    )


def heading(results: Results) -> str:
    """`verdict`, and of a run that was cut off that it is no more than what came so far."""
    said = verdict(results.counts)
    return said if results.run else f"Cut off; {stated(results.counts)} so far"


def whole_outcome(results: Results) -> CaseOutcome:
    """The one to look at first. A run that was cut off has not passed, whatever passed before."""
    outcome = worst(case.outcome for case in results.cases)
    green = outcome in (CaseOutcome.PASSED, CaseOutcome.SKIPPED)
    return CaseOutcome.NOT_RUN if green and results.run is None else outcome


def verdict(counts: dict[CaseOutcome, int]) -> str:
    """The run in one phrase: ``All 30 passed``, ``2 failed, 1 error of 30``, ``28 passed, 2 skipped``."""
    total = sum(counts.values())
    bad = {word: 0 if word in (CaseOutcome.PASSED, CaseOutcome.SKIPPED) else counts[word] for word in counts}
    if any(bad.values()):
        return f"{stated(bad)} of {total}"
    if counts[CaseOutcome.PASSED] == total > 1:
        return f"All {total} passed"
    good = [number(counts[word], word) for word in (CaseOutcome.PASSED, CaseOutcome.SKIPPED) if counts[word]]
    return ", ".join(good) or "No tests"


def warnings(results: Results) -> list[str]:
    """What makes the counts less than the whole story."""
    run = results.run
    unreadable = [*results.unreadable, *_torn(results.items)]
    if run is None:
        torn = any(line.startswith(RUN) for line in unreadable)
        first = (
            f"run.json is {'torn' if torn else 'missing'}: the run was cut off before its end. Only what "
            "verdicts say is shown; skips, errors and tests that never ran are not known."
        )
        return [first, *unreadable]
    found = [_ENDINGS[run.exit_code]] if run.exit_code in _ENDINGS else []
    if run.exit_code == PIPE_CLOSED and not results.counts[CaseOutcome.NOT_RUN]:
        found = [_LEFT_AFTER]
    found += ["The run did not come to an end of its own."] if run.exit_code is None else []
    return [*found, *run.notes, *unreadable]


def _torn(items: Iterable[Item]) -> list[str]:
    """A line if evidence of tests can't be read; what it is stands at each."""
    names = [item.folder for item in items if item.unreadable]
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    tests = "1 test" if len(names) == 1 else f"{len(names)} tests"
    return [f"Evidence of {tests} can't be read: {', '.join(names[:_NAMED])}{more}."]


def facts(results: Results) -> list[tuple[str, list[str]]]:
    """Names and values, some of several lines, of what this was made on and by; only what is known."""
    found: list[tuple[str, list[str]]] = []
    run, versions = results.run, results.versions
    if run is not None:
        found += [(name, [value]) for name, _, value in (line.partition(": ") for line in run.host)]
        found += [("started", [run.started.replace("T", " ")]), ("duration", [seconds(run.seconds)])]
    known = [item.facts for item in results.items if item.facts]
    slow = [case.slowness for case in results.cases if case.slowness] or [fact.slowness for fact in known]
    if slow:
        low, high = min(slow), max(slow)
        factor = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        warning = "; absolute times say little, only ratios within this run do" if high >= _SLOW else ""
        found.append(("slowness", [f"{factor} × as slow as a current desktop core{warning}"]))
    if versions is not None:
        commit = f", commit {versions.commit}" if versions.commit else ""
        found.append(("harness", [f"{versions.harness}{commit}"]))
    found += [
        ("pods", _each(f"{_qemu(fact.qemu)} with {fact.accel}, image {fact.guest_image}" for fact in known)),
        ("guest", _each(f"kernel {fact.hello.kernel}, Python {fact.hello.python}" for fact in known)),
        ("agent", _each(f"version {fact.hello.version}, digest {fact.hello.agent[:12]}" for fact in known)),
        ("pods' host", _each(f"kernel {fact.host_kernel}, Python {fact.host_python}" for fact in known)),
    ]
    if versions is not None:
        mine = f"kernel {versions.kernel}, Python {versions.python}, pytest {versions.pytest}"
        found.append(("this machine", [mine]))
        found.append(("images", [f"{name} {value}" for name, value in versions.images.items()]))
    found.append(("note", _each(note for fact in known for note in fact.notes)))
    return [(name, lines) for name, lines in found if any(lines)]


def attention(results: Results) -> Section | None:
    """What failed, each with its first difference; then errors, what was not run, and skips by reason."""
    parts: list[Markup] = []
    differences = {item.case.id: item.differences[0] for item in results.items if item.differences}
    for outcome in WORST_FIRST[:-1]:
        cases = [case for case in results.cases if case.outcome is outcome]
        if cases:
            one_by_one = outcome in (CaseOutcome.FAILED, CaseOutcome.ERROR)
            shown = _texts(cases, differences) if one_by_one else _reasons(cases)
            heading = el("h3", el("b", SIGNS[outcome], aria_hidden="true"), f" {number(len(cases), outcome)}")
            parts.append(el("div", heading, shown, class_=f"group {css(outcome)}"))
    return Section("attention", "What did not pass", join(parts)) if parts else None


def _texts(cases: Iterable[Case], differences: dict[str, str]) -> Markup:
    """The first difference where a verdict has one, else all that was said."""
    entries = []
    for case in cases:
        text = (
            el("p", differences[case.id]) if case.id in differences else el("pre", cut(case.told, _LONGEST))
        )
        entries.append(el("li", _named(case), text))
    return el("ul", *entries, class_="texts")


def _reasons(cases: Iterable[Case]) -> Markup:
    by_reason: dict[str, list[Case]] = {}
    for case in cases:
        by_reason.setdefault(case.reason, []).append(case)
    entries = []
    for reason, group in by_reason.items():
        names = join([_named(case) for case in group], ", ")
        entries.append(el("li", el("p", reason, class_="reason") if reason else None, el("p", names)))
    return el("ul", *entries, class_="texts")


def _named(case: Case) -> Markup:
    if case.subject is None:
        return el("code", case.id)
    return el("a", f"{case.subject.scenario} on {case.subject.link}", href=f"#{anchor(case.subject)}")


def _bar(counts: dict[CaseOutcome, int], total: int) -> Markup | None:
    """The counts as one bar, and below it in words."""
    if not total:
        return None
    parts: list[Child] = []
    before = 0
    order = [word for word in reversed(WORST_FIRST) if counts[word]]
    for word in order:
        x, width = f"{100 * before / total:.3f}%", f"{100 * counts[word] / total:.3f}%"
        parts.append(el("rect", x=x, width=width, height=10, class_=css(word)))
        before += counts[word]
    words = [
        el("li", el("b", SIGNS[word], aria_hidden="true"), f" {number(counts[word], word)}", class_=css(word))
        for word in order
    ]
    return el("div", el("svg", *parts, aria_hidden="true", height=10), el("ul", *words), class_="counts")


def _fact(name: str, lines: list[str]) -> Markup:
    return el("div", el("dt", name), *(el("dd", line) for line in lines))


def _qemu(said: str) -> str:
    """A version, or where that is not known the program."""
    return f"QEMU {said}" if said[:1].isdigit() else said


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
