"""So many tests with VMs at once, the others wait; a place is free when its holder ends, however."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.host import admission
from harness.host.admission import admitted
from tests.unit.hangs import HANGS

HOLD = "import sys; from harness.host.admission import admitted; from pathlib import Path\n"
HOLD += "with admitted(1, Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_so_many_are_admitted_and_the_next_waits_for_one_to_leave(tmp_path: Path) -> None:
    inside = threading.Semaphore(0)
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        assert first.enter_context(admitted(2, tmp_path)) < 60
        second.enter_context(admitted(2, tmp_path))

        def third() -> None:
            with admitted(2, tmp_path):
                inside.release()

        thread = threading.Thread(target=third)
        thread.start()
        assert not inside.acquire(timeout=0.2)
        first.close()
        assert inside.acquire(timeout=HANGS)
    thread.join()


def test_a_killed_holder_leaves_its_place(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        os.kill(holder.pid, signal.SIGKILL)
        with admitted(1, tmp_path):
            assert holder.wait() == -signal.SIGKILL


def test_a_cache_that_cannot_be_written_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with admitted(1, tmp_path / "file" / "x"), admitted(1, tmp_path / "file" / "x") as waited:
        assert waited == 0.0


@pytest.mark.parametrize(
    ("cores", "free", "count"), [(1, 4000, 2), (8, 100_000, 16), (8, 1600, 4), (8, 100, 1)]
)
def test_cores_and_memory_bound_the_places(
    cores: int, free: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(admission, "free_mib", lambda: free)
    assert admission.places() == count


@pytest.mark.parametrize("uses", [0, 384, 600])
def test_what_those_inside_use_is_not_counted_twice(
    uses: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they have begun to use it or not: 21 of 8 GiB; fewer where they use more than is thought."""
    held = 0
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(admission, "free_mib", lambda: 8192 - held * uses)
    with contextlib.ExitStack() as stack:
        while held < 64 and stack.enter_context(admission.another(folder=tmp_path)):
            held += 1
        assert held == {0: 21, 384: 21, 600: 14}[uses]


def test_who_waits_sees_what_has_become_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 500
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(admission, "free_mib", lambda: free)
    inside = threading.Event()

    def second() -> None:
        with admitted(folder=tmp_path):
            inside.set()

    with contextlib.ExitStack() as first:
        first.enter_context(admitted(folder=tmp_path))
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.2)
        with admission.another(folder=tmp_path) as another:
            assert not another  # somebody is in line
        free = 300
        (tmp_path / "line").write_text("8000")
        assert not inside.wait(0.2), "there is room for more, but no memory now"
        free = 400
        assert inside.wait(60)
    thread.join()


def test_a_place_takes_one_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may have a hundred VMs, and a host a hundred places."""

    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = descriptors()
    with admitted(100, tmp_path), admission.another(100, tmp_path), admission.another(1, tmp_path):
        assert descriptors() == before + 2
    assert descriptors() == before


def test_a_further_place_is_not_waited_for(tmp_path: Path) -> None:
    with admitted(2, tmp_path), admission.another(2, tmp_path) as second:
        assert second
        with admission.another(2, tmp_path) as third:
            assert not third
    with admitted(1, tmp_path / "x"), admission.another(1, tmp_path / "x/line/none") as nowhere:
        assert not nowhere


def test_free_memory_is_what_linux_calls_available() -> None:
    assert admission.available_mib("MemTotal:  99 kB\nMemAvailable:  2097152 kB\nHugePages:\n") == 2048
