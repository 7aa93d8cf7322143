"""The benchmark's own arithmetic: samples to tables, targets, a run taken apart. No VM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.model.trace import Event, What
from harness.run.tracefile import write_trace
from tests.bench import __main__ as command
from tests.bench import summary
from tests.bench.inside import held, storm
from tests.bench.inside.figures import Figures, Sample
from tests.bench.outside import watched
from tests.bench.targets import TARGETS, Target


def sample(subject: str, value: float, pair: str = "", figure: str = "speed", **conditions: int) -> Sample:
    return Sample(
        figure=figure, subject=subject, value=value, unit="s", pair=pair, conditions=dict(conditions)
    )


def judged(target: Target, *samples: Sample) -> summary.Judged:
    (one,) = summary.summarised(samples, {}, [target]).targets
    return one


def test_samples_come_home_as_they_were_taken(tmp_path: Path) -> None:
    for item, value in (("b", 2.0), ("a", 1.0), ("a", 1.5)):
        Figures(tmp_path / "20260101-1" / item).add(
            "speed", "ours", value, "s", pair="1", conditions={"n": 8}
        )
    (tmp_path / "latest").symlink_to("20260101-1")  # the same ones, not to be counted twice
    found = summary.read(tmp_path)
    assert [(one.value, one.pair, one.conditions) for one in found] == [
        (1.0, "1", {"n": 8}),
        (1.5, "1", {"n": 8}),
        (2.0, "1", {"n": 8}),
    ]


def test_rows_have_medians_and_spread_by_subject_and_conditions() -> None:
    samples = [sample("a", 3), sample("a", 1), sample("b", 7), sample("a", 2), sample("a", 9, pods=4)]
    rows = summary.summarised([*samples, sample("", 5, figure="other"), sample("b", 8)], {}, []).rows
    seen = [(row.figure, row.subject, row.conditions, row.spread.median, row.spread.n) for row in rows]
    assert seen == [
        ("speed", "a", {}, 2, 3),
        ("speed", "b", {}, 7.5, 2),
        ("speed", "a", {"pods": 4}, 9, 1),
        ("other", "", {}, 5, 1),
    ]
    assert (rows[0].spread.least, rows[0].spread.most) == (1, 3)


def test_a_ratio_is_of_what_was_measured_together() -> None:
    """In a slow minute both are slow: the medians' ratio would be 2.5 here."""
    target = Target(figure="speed", subject="cold", over="clone", least=8)
    pairs = [("1", 10.0, 1.0), ("2", 100.0, 10.0), ("3", 25.0, 3.0), ("4", 50.0, 50.0)]
    samples = [one for pair, a, b in pairs for one in (sample("clone", b, pair), sample("cold", a, pair))]
    one = judged(target, *samples, sample("cold", 1000, "5"))
    assert one.spread is not None
    assert (one.spread.n, one.spread.least, one.spread.most) == (4, 1, 10)
    assert one.spread.median == pytest.approx((10 + 25 / 3) / 2)
    assert one.met


@pytest.mark.parametrize(
    ("target", "values", "met"),
    [
        (Target(figure="speed", subject="a", most=2), [1, 2, 9], True),
        (Target(figure="speed", subject="a", most=2), [1, 2.1, 9], False),
        (Target(figure="speed", subject="a", least=2), [1, 2, 9], True),
        (Target(figure="speed", subject="a", least=2), [1, 1.9, 9], False),
        (Target(figure="speed", subject="a", most=2, worst=True), [1, 2, 2], True),
        (Target(figure="speed", subject="a", most=2, worst=True), [1, 1, 2.1], False),
        (Target(figure="speed", subject="a", least=2, worst=True), [2, 9, 9], True),
        (Target(figure="speed", subject="a", least=2, worst=True), [1.9, 9, 9], False),
        (Target(figure="speed", subject="a", most=0, worst=True), [0, 0], True),
        (Target(figure="speed", subject="a", most=0, worst=True), [0, 1], False),
    ],
)
def test_targets(target: Target, values: list[float], met: bool) -> None:
    assert judged(target, *(sample("a", value) for value in values)).met is met


def test_a_ratio_of_samples_without_pairs_is_of_the_medians() -> None:
    target = Target(figure="speed", subject="a", over="b", most=0.3)
    one = judged(target, sample("a", 1), sample("a", 3), sample("b", 10))
    assert one.spread == summary.Spread(1, 0.2, 0.2, 0.2)


def test_a_target_that_was_not_measured_is_said_so() -> None:
    targets = [Target(figure="speed", subject="a", over="b", most=1), Target(figure="other", most=1)]
    found = summary.summarised([sample("a", 1, "1"), sample("b", 1, "2")], {}, targets)
    assert [(one.spread, one.met) for one in found.targets] == [(None, False)] * 2
    assert summary.table(found).count("not measured") == 2


def test_each_target_bounds_one_side() -> None:
    assert all((target.most is None) != (target.least is None) for target in TARGETS)


def test_the_table_shows_what_was_met_and_missed() -> None:
    targets = [
        Target(figure="speed", subject="a", over="b", least=0.9),
        Target(figure="speed", subject="a", most=1, worst=True),
    ]
    samples = [sample("a", 1234.5, "1", chunk=64), sample("b", 1300, "1", chunk=64)]
    lines = summary.table(summary.summarised(samples, {}, targets)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]
    assert ["speed (chunk 64)", "a", "1234 s", "1234 … 1234", "1"] in cells
    assert ["speed (chunk 64)", "a / b", "≥ 0.9", "0.95", "0.95 … 0.95", "met"] in cells
    assert ["speed (chunk 64)", "a", "always ≤ 1", "1234", "1234 … 1234", "missed"] in cells
    assert len({len(line) for line in lines[:4]}) == 1


def test_the_json_is_read_back() -> None:
    made = summary.summarised([sample("a", 1)], {"cpus": 2}, TARGETS)
    assert msgspec.json.decode(msgspec.json.encode(made), type=summary.Summary) == made


def test_the_command_says_what_it_knows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "banch"], capture_output=True, text=True, cwd=command.ROOT
    )
    assert done.returncode == 2
    assert "bench" in done.stderr
    assert "lifecycles" in done.stderr


def test_a_run_taken_apart(tmp_path: Path) -> None:
    item = tmp_path / "item"
    item.mkdir()
    (item / "facts.json").write_text(
        '{"seconds": {"template": 0.25, "clone": 1, "identity": 0.5, "hello": 0.5, "judge": 0.25}}'
    )
    times = [
        (100.0, What.STARTED),
        (101.0, What.CONNECTING),
        (101.5, What.CONNECTED),
        (101.5, What.ASKED),
        (103.5, What.ANSWERED),
        (106.0, What.LEFT),
    ]
    write_trace(item / "trace.jsonl", [Event(at=at, client="client/0", what=what) for at, what in times])
    report = tmp_path / "run.json"
    case = {"seconds": {"setup": 2.5, "call": 7.0, "teardown": 0.5}}
    report.write_text(json.dumps({"cases": [case]}))
    lines = [(1.0, "lab: restoring 1 ..."), (3.5, "lab: restoring 1: done in 2.5 s"), (5.0, "1 worker")]
    seen = watched.taken_apart(20.0, lines, item, report)
    assert (seen.whole, seen.lab, seen.saved) == (20.0, 2.5, False)
    assert seen.phases == {
        "start-up": 1.0,
        "lab": 2.5,
        "template": 0.25,
        "clone": 2.0,
        "connect": 0.5,
        "work": 2.0,
        "clients start and wait for each other": 3.5,
        "fork, record": 0.75,
        "judge": 0.25,
        "tear-down": 0.5,
        "worker, report, end": 6.5,
    }


@pytest.mark.parametrize(
    ("times", "connect", "work", "rest"),
    [
        ([(0, What.STARTED), (1, What.CONNECTING), (2, What.ASKED), (5, What.CONNECTED)], 1, 6, 3),
        ([(0, What.ASKED), (9, What.CONNECTING), (9.5, What.CONNECTED)], 0.5, 8, 1.5),
        ([(0, What.CONNECTING), (1, What.ASKED), (9, What.CONNECTED)], 2, 7, 1),
        ([(3, What.CONNECTING), (3, What.CONNECTED), (3, What.ASKED)], 0, 5, 2),
    ],
)
def test_time_while_some_connect_and_others_work_counts_once(
    times: list[tuple[float, What]], connect: float, work: float, rest: float
) -> None:
    events = sorted([*times, (8, What.ANSWERED), (10, What.LEFT)])
    trace = tuple(Event(at=at, client="client/0", what=what) for at, what in events)
    assert watched.clients(trace) == {
        "connect": connect,
        "work": work,
        "clients start and wait for each other": rest,
    }


def test_what_is_held_counts_what_is_there(tmp_path: Path) -> None:
    before = held.held(tmp_path)
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    environ = {**os.environ, "MARK": str(tmp_path)}
    with subprocess.Popen(["cat"], env=environ, stdin=subprocess.PIPE) as process:
        after = held.held(tmp_path)
        process.communicate()
    os.close(fd)
    growth = {name: after[name] - before[name] for name in before}
    assert growth["CIDs"] >= 0
    assert growth | {"CIDs": 0} == {
        "processes": 1,
        "descriptors": 2,
        "files": 1,
        "CIDs": 0,
    }  # the pipe to cat is one of them
    assert set(held.memory_mib()) == {"PSS of the worker", "kernel slabs"}


def test_an_outcome_of_many_clients() -> None:
    good, bad = storm.Step(1.0, 3.0, (0.2, 0.1)), storm.Step(0.5, 2.0, error="Lost: gone")
    outcome = storm.Outcome({"connect": [good, good], "ping": [good, bad], "send": [good], "receive": [good]})
    assert outcome.intact == 1
    assert outcome.errors == ["Lost: gone"]
    assert outcome.span("ping") == 2.5
    assert outcome.trips == [0.1, 0.2]
