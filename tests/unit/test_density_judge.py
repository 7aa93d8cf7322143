"""Density, as it is judged: the statistics, what is said, what is red."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from harness.judge import density as judge
from harness.model.density import FILE, Density
from harness.model.errors import UsageError
from harness.run import density as run
from tests.unit.densities import GOOD, PLAIN, PROXIES, measured, memory, red


@pytest.mark.parametrize(
    ("degrees", "t"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (30, 2.0423),
        (120, 1.9799),
    ],
)
def test_students_t_is_as_tables_have_it(degrees: int, t: float) -> None:
    assert judge.student(degrees) == pytest.approx(t, abs=5e-5)


def test_a_mean_has_the_interval_of_its_values() -> None:
    found = judge.mean([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    assert 2 + half - 1e-6 in found
    assert 2 + half + 1e-6 not in found
    assert str(found) == "2.00 (−0.48 … 4.48)"


def test_a_slope_is_the_mean_step_whatever_is_there_at_first() -> None:
    found = judge.per_step([100.0, 101.0, 103.0, 104.5])
    assert found.mean == pytest.approx(1.5)
    assert found == judge.mean([1.0, 2.0, 1.5])
    exact = judge.per_step([3.0, 4.0, 5.0])
    assert (exact.low, exact.mean, exact.high) == (1.0, 1.0, 1.0)


def test_two_totals_are_too_few() -> None:
    with pytest.raises(UsageError, match="an interval from 1 values"):
        judge.per_step([1.0, 2.0])


def plain_least_squares(totals: Sequence[float]) -> tuple[float, float]:
    """Slope, and half of the interval, if each total had an error of its own."""
    places = range(len(totals))
    slope, start = statistics.linear_regression(places, totals)
    squares = sum((total - start - slope * place) ** 2 for place, total in zip(places, totals, strict=True))
    across = sum((place - statistics.fmean(places)) ** 2 for place in places)
    degrees = len(totals) - 2
    return slope, judge.student(degrees) * (squares / degrees / across) ** 0.5


def test_the_interval_holds_the_truth_as_often_as_it_says_and_a_straight_lines_does_not() -> None:
    """Six pods, each of which takes 1 MB more or less than the last, 3000 times."""
    draw = random.Random(4).gauss
    honest = narrow = 0
    for _ in range(3000):
        totals = [sum(steps) for steps in accumulated([draw(5.0, 1.0) for _ in range(6)])]
        honest += 5.0 in judge.per_step(totals)
        slope, half = plain_least_squares(totals)
        narrow += abs(slope - 5.0) <= half
    assert 0.93 < honest / 3000 < 0.97
    assert narrow / 3000 < 0.8


def accumulated(values: Sequence[float]) -> Iterator[Sequence[float]]:
    return (values[: count + 1] for count in range(len(values)))


def test_what_is_shared_is_no_part_of_a_slope_but_of_the_first() -> None:
    verdict = judge.judge(GOOD)
    assert not verdict.differences
    assert verdict.alone.pss == 2_700_000
    assert verdict.pss.proxy.mean == pytest.approx(statistics.fmean(PROXIES[1:]))
    assert verdict.uss.proxy.mean == pytest.approx(statistics.fmean(PROXIES))
    assert verdict.alone == memory(0.7, 2.0)
    assert 0.702 + 0.1 in verdict.pss.difference
    assert verdict.used_uss.mean == pytest.approx(statistics.fmean(PROXIES[:3]) + 1)
    assert judge.by_pss(GOOD)["proxy"][0] == pytest.approx(2.7)
    assert judge.by_uss(GOOD)["proxy"] == pytest.approx([sum(found) for found in accumulated(PROXIES)])


def test_it_is_said_in_a_line_beside_the_pages_figure() -> None:
    assert judge.seen(judge.judge(GOOD)).startswith("one more proxy 0.70 (0.66 … 0.74) MB PSS, 2.7 alone; ")
    assert judge.seen(judge.judge(GOOD)).endswith("; less than the page's 4.5 MB")
    page = measured([mb + 3.8 for mb in PROXIES], PLAIN, PLAIN)
    assert judge.against_page(judge.judge(page)) == "as the page's 4.5 MB"
    large = measured([mb + 8 for mb in PROXIES], PLAIN, PLAIN)
    assert judge.against_page(judge.judge(large)) == "more than the page's 4.5 MB"


def test_it_comes_home_as_it_was_measured(tmp_path: Path) -> None:
    run.write(tmp_path / "new", GOOD)
    assert msgspec.json.decode((tmp_path / "new" / FILE).read_bytes(), type=Density) == GOOD


# what is red


def test_proxies_of_which_none_is_known_to_cost_anything_are_red() -> None:
    found = red(measured([0.7, 0.1, 0.0, 2.0, 0.0, 0.1], PLAIN, PLAIN))
    assert [text.partition(": ")[0].partition(" is ")[0] for text in found] == [
        "PSS of one more proxy",
        "USS of one more proxy",
        "USS of a pod with a proxy minus one without",
    ]
    assert all("not shown to be above 0" in text for text in found)


def test_pods_without_a_proxy_that_take_more_are_red() -> None:
    found = red(measured(PROXIES, PLAIN, [mb + 5 for mb in PLAIN]))
    assert [text.split(" is ")[0] for text in found] == [
        f"{name} of a pod with a proxy minus one without" for name in ("PSS", "USS")
    ]


def test_pods_with_a_proxy_that_may_take_nothing_more_are_red() -> None:
    scattered = [mb + more for mb, more in zip(PLAIN, (3, -3, 2, -2.5, 1, -2), strict=True)]
    assert red(measured(PROXIES, scattered, PLAIN)) == (
        "USS of a pod with a proxy minus one without is 0.45 (−2.24 … 3.15) MB: not shown to be above 0",
    )


def test_a_proxied_pod_with_a_second_process_is_red() -> None:
    last = GOOD.steps[-1]
    pods = (msgspec.structs.replace(last.proxied[0], processes=3), *last.proxied[1:])
    steps = (*GOOD.steps[:-1], msgspec.structs.replace(last, proxied=pods))
    assert red(msgspec.structs.replace(GOOD, steps=steps)) == (
        "pod 1 with a proxy has 3 processes, expected 2",
    )


def test_a_measurement_that_lacks_a_proxy_is_refused() -> None:
    steps = tuple(msgspec.structs.replace(step, proxied=step.plain) for step in GOOD.steps)
    with pytest.raises(UsageError, match="1 of 1 pods have no proxy"):
        judge.judge(msgspec.structs.replace(GOOD, steps=steps))
