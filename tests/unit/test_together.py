"""What is done with several hosts at once, and what a thread that hangs keeps waiting: nobody."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from harness.plugin.together import all_at_once
from tests.unit.hangs import HANGS

HANGING = """
import threading
from harness.plugin.together import all_at_once

def do(alias):
    print(alias, flush=True)
    threading.Event().wait()

all_at_once(["lab0"], do)
"""


def test_each_is_done() -> None:
    assert all_at_once(["a", "b"], str.upper) == {"a": "A", "b": "B"}


def test_what_one_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        all_at_once(["1", "b"], int)


def test_an_interrupt_waits_for_no_thread() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == "lab0\n"
            run.send_signal(signal.SIGINT)
            assert run.wait(HANGS / 10) == -signal.SIGINT
        finally:
            run.kill()
