"""A VM that has nothing more to do: seen by what its process uses of the CPU."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.model.deadline import Deadline
from harness.vm.idle import cpu_seconds, idle
from tests.unit.hangs import HANGS


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """Uses all the CPU that it gets until it is told not to, then none."""
    code = "import os, select\nwhile not select.select([0], [], [], 0)[0]: pass\nos.read(0, 1), os.read(0, 1)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_it_is_idle_once_it_stops_working(busy: subprocess.Popen[bytes]) -> None:
    async def wait() -> None:
        assert not await idle(busy.pid, Deadline(0.5), every=0.2)
        assert busy.stdin
        busy.stdin.write(b"x")
        busy.stdin.flush()
        assert await idle(busy.pid, Deadline(HANGS), every=0.2)

    asyncio.run(wait())
    assert cpu_seconds(busy.pid) > 0


def test_one_that_has_ended_is_not_waited_for(busy: subprocess.Popen[bytes]) -> None:
    busy.kill()
    busy.wait()
    assert not asyncio.run(idle(busy.pid, Deadline(HANGS)))


def test_one_that_gets_no_cpu_is_not_idle(busy: subprocess.Popen[bytes]) -> None:
    cpu = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(busy.pid, cpu)
    os.sched_setscheduler(busy.pid, os.SCHED_IDLE, os.sched_param(0))  # 3 parts of the CPU of 1027
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as hog:
        try:
            os.sched_setaffinity(hog.pid, cpu)
            assert not asyncio.run(idle(busy.pid, Deadline(2.0), every=0.5))
        finally:
            hog.kill()
