"""Clients that are other people's programs: each end they can have, by small programs that have it."""

from __future__ import annotations

import contextlib
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline, until
from harness.model.errors import DeadlinePassed
from harness.run.foreign import Dial, End, Foreign, Talk, crowd, ends, said, started

ECHO = ["cat"]
SILENT = ["sleep", "1000"]
REFUSED = ["sh", "-c", "echo no >&2; exit 1"]
OTHER = ["sh", "-c", "read line; echo other; exec sleep 1000"]
ONCE = ["sh", "-c", "read line; echo $line"]

PATIENT = 1000.0
"""Nobody is waiting before the deadline."""

ROUND = Talk(b"again\n", b"again\n")


def soon() -> Deadline:
    return Deadline(60)


def dialler(folder: RunFolder, tmp_path: Path, *programs: list[str]) -> Dial:
    """Dials these programs, one after the other."""
    left = iter(enumerate(programs))

    def dial() -> AbstractContextManager[Foreign]:
        number, argv = next(left)
        return started(argv, folder, tmp_path / f"{number}.log")

    return dial


def talks(count: int) -> list[Talk]:
    return [Talk(b"client %d\n" % number, b"client %d\n" % number) for number in range(count)]


def seen(
    folder: RunFolder, tmp_path: Path, *programs: list[str], slowness: float, again: Talk | None = ROUND
) -> Counter[End]:
    with crowd(dialler(folder, tmp_path, *programs), talks(len(programs)), soon()) as clients:
        return ends(clients, again, slowness, soon())


def test_all_are_served(folder: RunFolder, tmp_path: Path) -> None:
    assert seen(folder, tmp_path, ECHO, ECHO, ECHO, slowness=PATIENT) == {End.SERVED: 3}


@pytest.mark.parametrize("again", [ROUND, None], ids=["rounds", "blind"])
def test_who_hears_nothing_while_the_first_is_served_is_waiting(
    folder: RunFolder, tmp_path: Path, again: Talk | None
) -> None:
    found = seen(folder, tmp_path, ECHO, SILENT, SILENT, slowness=0.1, again=again)
    assert found == {End.SERVED: 1, End.WAITING: 2}
    assert said(found) == "1 served, 2 waiting"


@pytest.mark.parametrize(("program", "end"), [(REFUSED, End.REFUSED), (OTHER, End.GARBLED)])
def test_who_ends_unserved_is_refused_and_who_hears_another_answer_garbled(
    folder: RunFolder, tmp_path: Path, program: list[str], end: End
) -> None:
    assert seen(folder, tmp_path, ECHO, program, slowness=PATIENT) == {End.SERVED: 1, end: 1}


def test_a_first_one_that_ends_while_it_holds_is_lost(folder: RunFolder, tmp_path: Path) -> None:
    assert seen(folder, tmp_path, ONCE, ECHO, SILENT, slowness=0.1)[End.LOST] == 1


def test_the_first_one_is_dialled_until_it_is_not_refused(folder: RunFolder, tmp_path: Path) -> None:
    dial = dialler(folder, tmp_path, REFUSED, REFUSED, ECHO, ECHO)
    with crowd(dial, talks(2), soon()) as clients:
        assert ends(clients, ROUND, PATIENT, soon()) == {End.SERVED: 2}
    assert (tmp_path / "0.log").read_text() == "no\n"


def test_a_first_one_that_is_never_answered_ends_at_the_deadline(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed, match="the first client's answer"):
        with crowd(dialler(folder, tmp_path, SILENT), talks(1), Deadline(0.2)):
            pass


def test_one_is_read_no_further_than_asked(folder: RunFolder, tmp_path: Path) -> None:
    with started(["yes"], folder, tmp_path / "log") as client:
        for _ in range(2):
            client.ask(Talk(b"", b"y\n" * 10))
            until(lambda: client.look() is not End.WAITING, soon(), "its words")
            assert client.look() is End.SERVED


def test_what_ends_can_be_told_and_asked_again(folder: RunFolder, tmp_path: Path) -> None:
    with started(REFUSED, folder, tmp_path / "log") as client:
        client.ask(talks(1)[0])
        until(lambda: client.look() is not End.WAITING, soon(), "its end")
        with contextlib.suppress(BrokenPipeError):
            client.ask(Talk(b"x" * (1 << 20), b"x"))
        assert client.look() is End.REFUSED
        assert client.complaint == "no"


def test_leaving_ends_it(folder: RunFolder, tmp_path: Path) -> None:
    with started(["sh", "-c", "cat; echo gone >&2"], folder, tmp_path / "log") as client:
        client.leave()
        assert client.complaint == "gone"
