"""What processes have in memory, and which are a run's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host import memory
from harness.host.runfolder import RunFolder
from harness.model.density import Memory
from harness.model.errors import InfrastructureError

ROLLUP = """\
00400000-7ffc8a9e5000 ---p 00000000 00:00 0                              [rollup]
Rss:                4388 kB
Pss:                1255 kB
Pss_Dirty:          1000 kB
Shared_Clean:       3300 kB
Shared_Dirty:          0 kB
Private_Clean:         4 kB
Private_Dirty:      1100 kB
Private_Hugetlb:    2048 kB
Swap:                  0 kB
SwapPss:               0 kB
"""


def test_a_rollup_is_read_in_bytes() -> None:
    found = memory.rollup(ROLLUP)
    assert found == Memory(rss=4388 * 1024, pss=1255 * 1024, uss=(4 + 1100 + 2048) * 1024)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "x: no line Rss in kB"),
        (ROLLUP.replace("Pss: ", "Pzz: "), "x: no line Pss in kB"),
        (ROLLUP.replace("1100 kB", "1100 MB"), "x: no line Private_Dirty in kB"),
        (
            ROLLUP.replace("Swap:                  0", "Swap:                  8"),
            "x: 8192 bytes are swapped out",
        ),
    ],
)
def test_a_rollup_that_does_not_say_all_is_an_error(text: str, told: str) -> None:
    with pytest.raises(InfrastructureError, match=told):
        memory.rollup(text, "x")


def test_a_process_of_ours_can_be_read_and_one_that_is_gone_can_not() -> None:
    found = memory.of_process(os.getpid())
    assert found.rss >= found.pss >= found.uss > 1_000_000
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
        with pytest.raises(InfrastructureError, match=f"/proc/{gone.pid}/smaps_rollup: "):
            memory.of_process(gone.pid)


def test_processes_of_a_run_are_known_by_its_mark(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path) as folder, RunFolder.create(tmp_path) as other:
        for of in (folder, other):
            before = memory.processes(of)
            argv = [sys.executable, "-c", "input()"]
            environment = {**os.environ, **of.mark}
            with subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment) as child:
                assert memory.processes(of) - before == {child.pid}
                child.communicate(b"\n")


def test_processes_started_without_huge_pages_have_none() -> None:
    argv = ["sed", "-n", "s/THP_enabled:[[:space:]]*//p", "/proc/self/status"]

    def enabled() -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    before = enabled()
    with memory.without_huge_pages():
        assert enabled() == "0"
    assert enabled() == before
