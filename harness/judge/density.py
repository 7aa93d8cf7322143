"""What pods' memory says of the proxy's price: slopes, their intervals, and what contradicts the claim. Pure.

What one pod happens to take stays in every later total, so the errors of totals add up. Least squares for
such errors is the mean of the steps from each total to the next, and its error is that of a mean. A straight
line through the totals by plain least squares has about the same slope, and an interval that is far too
narrow (`tests/unit/test_density.py` shows both).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec

from harness.model.density import PAGE_MB, Density, Memory, PodMemory, Step
from harness.model.errors import UsageError

MB = 1_000_000
"""The page's unit: with it, what was measured of its proxy is what it says."""

_CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} … {self.high:.2f})".replace("-", "−")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one more pod takes in MB: as PSS, by what the sum grows; as USS, what each has among the others.

    `proxy` is of the proxies' own processes; `proxied` and `plain` of all processes of a kind of pod, QEMU's
    too; `difference` is the one minus the other, pair by pair.
    """

    proxy: Estimate
    proxied: Estimate
    plain: Estimate
    difference: Estimate


class DensityVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy costs, and in words what is not as the claim says: empty, if all is.

    `alone`: the first proxy, when there was one; if each had a copy of its program of its own, so that no
    text is shared, each would cost this. `used_pss`, `used_uss`: of one of many, with clients.
    """

    pss: Price
    uss: Price
    alone: Memory
    used_pss: Estimate
    used_uss: Estimate
    differences: tuple[str, ...]


def judge(density: Density) -> DensityVerdict:
    """The verdict on a measurement.

    :raise UsageError: with fewer than three steps, or a pod of the one kind without a proxy.
    """
    pss = Price(**{name: per_step(found) for name, found in by_pss(density).items()})
    uss = Price(**{name: mean(found) for name, found in _kinds(density.steps[-1], "uss").items()})
    return DensityVerdict(
        pss=pss,
        uss=uss,
        alone=_proxies(density.steps[0])[0],
        used_pss=mean([memory.pss / MB for memory in density.used]),
        used_uss=mean([memory.uss / MB for memory in density.used]),
        differences=tuple(_differences(density, pss, uss)),
    )


def per_step(totals: Sequence[float]) -> Estimate:
    """By how much totals grow from one to the next.

    :raise UsageError: for fewer than three.
    """
    return mean([after - before for before, after in itertools.pairwise(totals)])


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent values; the interval is Student's.

    :raise UsageError: for fewer than two.
    """
    if len(values) < 2:
        raise UsageError(f"an interval from {len(values)} values", hint="measure at least two")
    middle = statistics.fmean(values)
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean=middle, low=middle - half, high=middle + half)


def student(degrees: int) -> float:
    """The t for which 95 % of Student's distribution with so many degrees of freedom are within ±t.

    By bisection of the closed form of its integral (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 100.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < _CONFIDENCE else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """The part of Student's distribution within ±t."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for place in range(1 + odd, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * place / (place + 1)
    part = math.sin(angle) * total
    return 2 / math.pi * (angle + part) if odd else part


def by_pss(density: Density) -> dict[str, list[float]]:
    """MB at each step of what `Price` is about, under the same names: PSS of all that run then."""
    kinds = [_kinds(step, "pss") for step in density.steps]
    return {name: [sum(kind[name]) for kind in kinds] for name in kinds[0]}


def by_uss(density: Density) -> dict[str, list[float]]:
    """As `by_pss`, but USS of the first, the first two, … of those that run at the last step.

    At first one proxy has its text to itself, until the second one shares it: as if that cost nothing.
    """
    last = _kinds(density.steps[-1], "uss")
    return {name: list(itertools.accumulate(found)) for name, found in last.items()}


def _kinds(step: Step, field: str) -> dict[str, list[float]]:
    """MB of each pod or pair of pods, in order."""

    def of(pods: Sequence[PodMemory]) -> list[float]:
        each = ([pod.qemu, *([pod.proxy] if pod.proxy else [])] for pod in pods)
        return [sum(getattr(memory, field) for memory in memories) / MB for memories in each]

    proxied, plain = of(step.proxied), of(step.plain)
    return {
        "proxy": [getattr(memory, field) / MB for memory in _proxies(step)],
        "proxied": proxied,
        "plain": plain,
        "difference": [one - other for one, other in zip(proxied, plain, strict=True)],
    }


def _proxies(step: Step) -> list[Memory]:
    found = [pod.proxy for pod in step.proxied if pod.proxy]
    if len(found) != len(step.proxied):
        raise UsageError(f"{len(step.proxied) - len(found)} of {len(step.proxied)} pods have no proxy")
    return found


def _differences(density: Density, pss: Price, uss: Price) -> Iterator[str]:
    """What the claim rests on: a process more, which costs something, and nothing in its place without it."""
    last = density.steps[-1]
    for kind, pods, wanted in (("with a proxy", last.proxied, 2), ("without one", last.plain, 1)):
        for place, pod in enumerate(pods):
            if pod.processes != wanted:
                yield f"pod {place + 1} {kind} has {pod.processes} processes, expected {wanted}"
    for name, price in (("PSS", pss), ("USS", uss)):
        if price.proxy.low <= 0:
            yield f"{name} of one more proxy is {price.proxy} MB: not shown to be above 0"
        minus = f"{name} of a pod with a proxy minus one without is {price.difference} MB"
        if price.difference.high <= 0:
            yield f"{minus}, not above 0"
        elif name == "USS" and price.difference.low <= 0:  # PSS has what is shared in it, and scatters more
            yield f"{minus}: not shown to be above 0"


EXPECTED = "with a proxy one process more, which takes memory, and the pod more of its own (USS)"


def seen(verdict: DensityVerdict) -> str:
    """What was found, in a line."""
    return (
        f"one more proxy {verdict.pss.proxy} MB PSS, {verdict.alone.pss / MB:.1f} alone; "
        f"pod with minus without {verdict.pss.difference} MB; {against_page(verdict)}"
    )


def against_page(verdict: DensityVerdict) -> str:
    """What one more idle proxy costs, beside the page's figure."""
    found = verdict.pss.proxy
    if PAGE_MB in found:
        return f"as the page's {PAGE_MB} MB"
    return f"{'less' if found.high < PAGE_MB else 'more'} than the page's {PAGE_MB} MB"
