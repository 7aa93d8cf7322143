"""When somebody is called waiting, with a clock of its own."""

from __future__ import annotations

import pytest

from harness.run import patience as module
from harness.run.patience import BLIND, FEW, HUNG, LATE, ROUND, ROUNDS, SILENCE, Attentive, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


BOTH = frozenset({"a/0", "b/0"})


def rounds(patience: Patience, clock: Clock, count: int, every: float) -> None:
    patience.among(BOTH)
    for _ in range(count):
        clock.now += every + 0.001
        assert patience.ask() == BOTH
        patience.back("a/0")
        patience.back("b/0")


def lost(patience: Patience, *, rounds: bool = True, blind: bool = False, quick: bool = False) -> bool:
    return patience.over(rounds=rounds, blind=blind, quick=quick)


@pytest.mark.parametrize("slowness", [1.0, 10.0])
def test_it_takes_rounds_and_silence(clock: Clock, slowness: float) -> None:
    patience = Patience(slowness)
    rounds(patience, clock, ROUNDS - 1, ROUND * slowness)
    clock.now += SILENCE * slowness
    assert not lost(patience), "rounds are missing"
    rounds(patience, clock, 1, ROUND * slowness)
    assert lost(patience)


def test_rounds_without_the_time_are_not_enough(clock: Clock) -> None:
    patience = Patience(1.0)
    patience.among(BOTH)
    clock.now += 5
    assert patience.ask() == BOTH
    patience.news()
    patience.back("a/0")
    patience.back("b/0")
    rounds(patience, clock, ROUNDS - 1, max(ROUND, SILENCE / (ROUNDS - 1)))
    assert patience.silence > SILENCE
    assert not lost(patience), "the first of the rounds began before the news"
    rounds(patience, clock, 1, ROUND)
    assert lost(patience)


def test_a_round_that_began_before_the_news_is_not_the_one_that_is_enough(clock: Clock) -> None:
    patience = Patience(1.0)
    patience.among(BOTH)
    clock.now += 5
    assert patience.ask() == BOTH
    patience.back("a/0")
    patience.news()
    clock.now += SILENCE
    patience.back("b/0")
    assert not lost(patience, quick=True)
    rounds(patience, clock, 1, ROUND)
    assert lost(patience, quick=True)


def test_news_starts_it_anew(clock: Clock) -> None:
    patience = Patience(1.0)
    rounds(patience, clock, ROUNDS, SILENCE / ROUNDS)
    assert lost(patience)
    patience.news()
    assert not lost(patience)
    clock.now += SILENCE
    assert not lost(patience), "the rounds before the news don't count"


def test_a_round_is_over_when_all_answered_and_another_does_not_begin_before(clock: Clock) -> None:
    patience = Patience(1.0)
    patience.among(BOTH)
    clock.now += 5
    assert patience.ask() == BOTH
    patience.back("a/0")
    clock.now += 5
    assert not patience.ask()
    assert patience.unanswered == {"b/0"}
    assert not lost(patience, quick=True)
    patience.back("b/0")
    assert lost(patience, quick=True)


def test_no_round_right_after_news(clock: Clock) -> None:
    patience = Patience(10.0)
    patience.among(BOTH)
    clock.now += 5
    patience.news()
    clock.now += ROUND * 9
    assert not patience.ask(), "who sees something now would share the host with it"
    clock.now += ROUND * 2
    assert patience.ask() == BOTH


def test_few_are_asked_at_once_and_all_before_patience_is_over(clock: Clock) -> None:
    patience = Patience(1.0)
    many = [f"many/{number:02}" for number in range(FEW * (ROUNDS + 2))]
    patience.among(many)
    asked: list[str] = []
    while len(asked) < len(many):
        assert not lost(patience)
        clock.now += SILENCE
        now = patience.ask()
        assert len(now) == FEW
        asked += sorted(now)
        for name in now:
            patience.back(name)
    assert asked == many
    assert lost(patience)


def test_they_are_asked_in_turn_when_all_have_answered_too(clock: Clock) -> None:
    patience = Patience(1.0)
    many = [f"many/{number:02}" for number in range(FEW * 3)]
    patience.among(many)
    asked: list[str] = []
    for _ in range(6):
        clock.now += ROUND + 0.001
        now = patience.ask()
        asked += sorted(now)
        for name in now:
            patience.back(name)
    assert asked == many * 2


def test_where_a_round_gets_no_answer_the_others_are_asked_as_well(clock: Clock) -> None:
    patience = Patience(1.0)
    many = {f"many/{number}" for number in range(FEW + 3)}
    patience.among(many)
    clock.now += ROUND * 2
    first = patience.ask()
    patience.back(min(first))
    clock.now += LATE
    assert patience.ask() == many - first
    assert not patience.ask()
    assert patience.unanswered == many - {min(first)}


def test_one_that_no_longer_holds_is_not_waited_for(clock: Clock) -> None:
    patience = Patience(1.0)
    patience.among(BOTH)
    clock.now += 5
    assert patience.ask() == BOTH
    patience.among({"a/0"})
    assert patience.unanswered == {"a/0"}


def test_blind_and_hung(clock: Clock) -> None:
    patience = Patience(2.0)
    clock.now += BLIND * 2.0
    assert not lost(patience, rounds=False)
    assert lost(patience, rounds=False, blind=True)
    clock.now += (HUNG - BLIND) * 2.0
    assert lost(patience, rounds=False)


def test_time_in_which_nobody_looks_is_no_silence(clock: Clock) -> None:
    watch = Attentive(0.2)
    patience = Patience(1.0, watch)
    clock.now += 1000
    watch.look()
    assert patience.silence == pytest.approx(0.2)
    for _ in range(10):
        clock.now += 0.05
        watch.look()
    assert patience.silence == pytest.approx(0.7)
    for _ in range(int(HUNG / 0.2)):
        clock.now += 0.2
        watch.look()
    assert lost(patience), "but a mute system is found out"
