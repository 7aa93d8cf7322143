"""From traces to what is drawn of them."""

from __future__ import annotations

import html
import re

import msgspec
import pytest

from harness.judge import judge
from harness.model.expect import Word
from harness.model.plan import Plan
from harness.model.trace import Event, What
from harness.report import drawing, timeline
from harness.report.timeline import AT_FIRST, TICKS, Row, State, Timeline
from tests.unit import runs
from tests.unit.telling import Telling
from tests.unit.traces import one_at_a_time, plan, right


def drawn(on_link: Plan, trace: list[Event]) -> Timeline:
    return timeline.timeline(on_link, trace, judge(on_link, trace).ends)


def states(row: Row) -> list[State]:
    return [span.state for span in row.spans]


def test_one_is_served_and_holds_while_the_others_wait() -> None:
    on_link = plan("multiple-clients-8", "virtio-serial")
    found = drawn(on_link, one_at_a_time(on_link))
    first, *rest = found.rows
    assert states(first) == [State.CONNECTING, State.WAITING, State.SERVED, State.HOLDING]
    assert [row.end.client for row in found.rows] == list(on_link.clients)
    for row in rest:
        assert states(row) == [State.CONNECTING, State.WAITING]
        assert [moment.what for moment in row.moments] == [What.ENDED]
        assert What.ANSWERED not in row.first
    assert not found.folded


def test_spans_follow_each_other_and_last_to_the_end() -> None:
    for scenario, link in (("pod-diagram-one-leaves", "vsock"), ("serial-second-client", "isa-serial")):
        on_link = plan(scenario, link)
        trace = right(on_link)
        found = drawn(on_link, trace)
        assert found.length == pytest.approx(trace[-1].at - trace[0].at)
        for row in found.rows:
            for one, other in zip(row.spans, row.spans[1:], strict=False):
                assert one.end == other.start
            assert row.over is not None
            assert row.spans[-1].end == pytest.approx(row.over)
            assert all(0 <= span.start <= span.end <= found.length for span in row.spans)


def test_waiting_for_another_group_is_a_pause() -> None:
    on_link = plan("pod-diagram-one-leaves", "vsock")
    steps = [step.op for step in on_link.groups[1].workload]
    found = drawn(on_link, right(on_link)).rows[2]
    assert found.done == found.steps == len(steps)
    pause = next(span for span in found.spans if span.state is State.PAUSED)
    assert pause.text == f"{steps.index('wait-for') + 1} wait-for"


def test_answers_that_cease_are_waiting_again() -> None:
    on_link = plan("multiple-clients-8", "vsock")
    telling = Telling(on_link).connects("client/0").asks("client/0")
    telling.say("client/0", What.PROGRESS, 0, "echo", sent=4096, received=1024)
    telling.say("client/0", What.PROGRESS, 0, "echo", sent=8192, received=2048)
    telling.say("client/1", What.CONNECTING).ended("client/0", "client/1", doing="echo")
    row = drawn(on_link, telling.events).rows[0]
    assert row.end.end is Word.LOST
    assert states(row) == [State.CONNECTING, State.WAITING, State.SERVED, State.WAITING]
    assert row.spans[2].text == ";8 KiB sent, 2 KiB received"


def test_trouble_is_a_moment_with_its_words() -> None:
    on_link = plan("multiple-clients-8", "vsock")
    rows = drawn(on_link, runs.garbled(on_link)).rows
    assert [[moment.what for moment in row.moments] for row in rows[:4]] == [
        [What.WRONG],  # and no LEFT: that goes without saying
        [What.REFUSED],
        [What.LOST],
        [What.ENDED],
    ]
    assert rows[0].moments[0].text == f";expected 00, seen {runs.HOSTILE}"
    assert states(rows[1]) == [State.CONNECTING]


def test_a_client_without_events_has_a_row() -> None:
    on_link = plan("serial-stale-reply", "vsock")
    row = drawn(on_link, Telling(on_link).connects("asker/0").events).rows[1]
    assert (row.spans, row.moments, row.first, row.over) == ((), (), {}, None)
    assert row.end.why == "left no trace: its process told nothing"


def large(on_link: Plan, each: int) -> list[Event]:
    """Every client is served, with `each` pieces of progress and as many round trips."""
    telling = Telling(on_link).connects(*on_link.clients)
    for number in range(each):
        for client in on_link.clients:
            telling.say(client, What.PROGRESS, 0, "echo", sent=number, received=number)
    for client in on_link.clients:
        telling.works(client)
    for _ in range(each):
        for client in on_link.clients:
            telling.say(client, What.PINGED, op="hold")
    return telling.ended(*on_link.clients).events


def test_a_large_trace_is_a_small_drawing() -> None:
    on_link = plan("multiple-clients-50", "vsock")
    trace = large(on_link, 300)
    assert len(trace) > 30_000
    found = drawn(on_link, trace)
    assert all(len(row.ticks) <= TICKS + 1 and len(row.spans) < 8 for row in found.rows)
    assert len(str(drawing.drawing(found, drawing.Texts()))) < 60_000
    assert found.rows[0].spans[-1].text == ";300 round trips"


def strokes(made: str, css: str) -> list[tuple[int, int, int]]:
    """What a drawing has of one class: row, place and width."""
    paths = re.findall(rf'<path class="?{css}"? d=(\S+) />', made)
    found = re.findall(r"M(\d+),(\d+)h(-?\d+)", "".join(paths))
    return sorted((int(row), int(at), int(width)) for at, row, width in found)


def test_ticks_are_where_no_bar_begins_or_ends() -> None:
    on_link = plan("pod-diagram", "vsock")
    (row, *_) = drawn(on_link, right(on_link)).rows
    spans = tuple(
        msgspec.structs.replace(span, start=start, end=end)
        for span, (start, end) in zip(row.spans, ((0, 1), (1, 4)), strict=False)
    )
    row = msgspec.structs.replace(row, spans=spans, moments=(), ticks=(49, 50, 51, 52, 150, 199, 200))
    made = str(drawing.drawing(Timeline((row,), 4.0), drawing.Texts()))
    assert strokes(made, "k") == [(0, at, 1) for at in (245, 255, 260, 750, 995)]


@pytest.mark.parametrize(("length", "unit"), [(4.0, 0.004), (40.0, 0.004), (4e-9, 4e-12)])
def test_bars_follow_each_other_and_none_has_no_width(length: float, unit: float) -> None:
    on_link = plan("pod-diagram", "vsock")
    (row, *_) = drawn(on_link, right(on_link)).rows
    ends = [0.0, 0.1004, 0.10041, 0.7, 1.0]
    spans = tuple(
        msgspec.structs.replace(row.spans[0], state=state, start=length * start, end=length * end, text=state)
        for state, start, end in zip(list(State)[:4], ends, ends[1:], strict=False)
    )
    texts = drawing.Texts()
    made = str(drawing.drawing(Timeline((msgspec.structs.replace(row, spans=spans),), length), texts))
    bars = sorted(bar for css in "cwsp" for bar in strokes(made, css))
    assert len(bars) == 3, "what is too short to be seen is not drawn"
    assert [at + width for _, at, width in bars] == [*(at for _, at, _ in bars[1:]), round(length / unit)]
    assert "waiting" not in str(texts.listed())


def test_texts_are_numbered_in_the_order_of_the_marks() -> None:
    on_link = plan("pod-diagram", "vsock")
    found = drawn(on_link, right(on_link))
    texts = drawing.Texts()
    made = str(drawing.drawing(found, texts))
    listed = re.findall(r"<li>(.*?)\n(?=<)", str(texts.listed()), re.DOTALL)
    (numbers,) = re.findall(r"data-t=([\d,]+)", made)
    told = [listed[int(number)] if number else "" for number in numbers.split(",")]
    marks = [
        text
        for row in found.rows
        for text in [*(one.text for one in row.spans), *(one.text for one in row.moments)]
    ]
    assert told + [""] * (len(marks) - len(told)) == [html.escape(text) for text in marks]
    spans = sum(len(strokes(made, css)) for css in "cwspmh")
    signs = sum(len(strokes(made, css)) for css in "fqe") + made.count("<use ")
    assert spans + signs == len(marks)


def test_of_very_many_clients_all_are_drawn_and_each_kind_of_end_is_seen_at_first() -> None:
    on_link = plan("multiple-clients-50", "virtio-serial")
    group = msgspec.structs.replace(on_link.groups[0], count=1000)
    on_link = msgspec.structs.replace(on_link, groups=(group,))
    trace = one_at_a_time(on_link)
    last = on_link.clients[-1]
    trace = [event for event in trace if event.client != last]
    trace.append(Event(at=101.0, client=last, what=What.REFUSED, detail={"errno": "EAGAIN"}))
    found = drawn(on_link, trace)
    assert [row.end.client for row in found.rows] == list(on_link.clients)
    assert len(found.folded) == 1000 - AT_FIRST
    assert last not in found.folded
    made = str(drawing.drawing(found, drawing.Texts()))
    at_first, _, folded = made.partition("<details>")
    more = 1000 - AT_FIRST
    assert f"<summary>{more} more: {more} × client waiting</summary>" in folded
    assert (at_first.count("<p>"), folded.count("<p>")) == (AT_FIRST, more)
    assert made.count(" data-s=") == 2


def test_of_very_many_clients_those_that_ended_amiss_come_first() -> None:
    on_link = plan("multiple-clients-50", "vsock")
    lost = {f"client/{number}" for number in (7, 23, 40, 41)}
    telling = Telling(on_link).connects(*on_link.clients)
    for client in on_link.clients:
        telling.works(client) if client not in lost else telling.say(client, What.LOST, errno="EPIPE")
    found = drawn(on_link, telling.ended(*set(on_link.clients) - lost).events)
    rows = [row for row in found.rows if row.end.client not in found.folded]
    assert {row.end.client for row in rows if row.end.end is Word.LOST} == lost
    assert len(rows) == AT_FIRST
    others = [on_link.clients.index(row.end.client) for row in rows if row.end.end is Word.SERVED]
    assert others == sorted(others)
    assert others[-1] > 25  # from all along


def test_a_fault_is_met_without_a_gap() -> None:
    on_link = plan("reliability-qemu-killed", "vsock")
    trace = right(on_link)
    moves = [
        msgspec.structs.replace(event, what=What.PROGRESS, at=event.at + 0.001, detail={"sent": 1})
        for event in trace
        if event.what is What.READY
    ]
    rows = drawn(on_link, sorted([*trace, *moves], key=lambda event: event.at)).rows
    sending = next(row for row in rows if row.end.client == "sending/0")
    assert states(sending) == [
        State.CONNECTING,
        State.WAITING,
        State.MEETING,
        State.PAUSED,
        State.HOLDING,
    ]
    assert sending.spans[2].text == ";1 B sent; sending"
    for one, other in zip(sending.spans, sending.spans[1:], strict=False):
        assert one.end == other.start


def test_a_table_tells_facts_only_where_they_are_not_as_expected() -> None:
    on_link = plan("reliability-qemu-killed", "vsock")
    rows = {row.end.client: row.told for row in drawn(on_link, right(on_link)).rows}
    assert rows["idle/0"] == ()
    lost = [
        msgspec.structs.replace(event, detail={**event.detail, "sees": "nothing"})
        if event.client == "idle/0" and "sees" in event.detail
        else event
        for event in right(on_link)
    ]
    found = drawn(on_link, lost)
    rows = {row.end.client: row.told for row in found.rows}
    assert (rows["idle/0"], rows["idle/1"]) == (("sees nothing",), ())
    assert "sees nothing" in str(drawing.table({"vsock": found}))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0.0, [0]),
        (0.0042, [0, 0.001, 0.002, 0.003, 0.004]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (14.4, [0, 5, 10]),
        (100.9, [0, 20, 40, 60, 80, 100]),
        (86400.0, [0, 20000, 40000, 60000, 80000]),
    ],
)
def test_the_axis_has_round_numbers(length: float, expected: list[float]) -> None:
    assert drawing.ticks(length) == expected
