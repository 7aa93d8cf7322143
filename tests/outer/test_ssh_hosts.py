"""Two hosts reached by SSH in one run, one of which dies in the middle; a kept lab is such a host.

Run on the machine itself, with two cores and 8 GiB free; four to seven minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.host.paths import cache_root
from harness.host.speed import slowness
from harness.model.deadline import Deadline, until
from harness.report.results import CaseOutcome, Run

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from harness.cli.main import entry; entry()"]
SCENARIOS = [
    "scenarios/pod-diagram.yaml",
    "scenarios/serial-second-client.yaml",
]


class KeptLab:
    """A lab kept in a cache of its own, in which images, keys and saved labs are the user's."""

    def __init__(self, folder: Path) -> None:
        cache = folder / "vsock-harness"
        cache.mkdir(parents=True)
        (cache_root() / "labs").mkdir(parents=True, exist_ok=True)
        for name in ("images", "keys", "labs"):
            (cache / name).symlink_to(cache_root() / name)
        self._env = {**os.environ, "XDG_CACHE_HOME": str(folder)}
        self.ssh_config = cache / "lab" / "ssh_config"

    def do(self, *words: str) -> str:
        done = subprocess.run(
            [*COMMAND, "lab", *words], cwd=ROOT, env=self._env, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    @property
    def qemu(self) -> int:
        return int(json.loads(self.do("status", "--json"))["qemu_pid"])


@contextlib.contextmanager
def two_labs(folder: Path) -> Iterator[tuple[list[KeptLab], Path]]:
    """Two labs that are up, and an OpenSSH configuration that knows them as ``one`` and ``two``."""
    labs = [KeptLab(folder / "a"), KeptLab(folder / "b")]
    try:
        known = ""
        for kept, name in zip(labs, ("one", "two"), strict=True):
            said = kept.do("up")
            assert "the lab is up" in said, said
            known += kept.ssh_config.read_text().replace("Host lab\n", f"Host {name}\n")
        (folder / "config").write_text(known)
        yield labs, folder / "config"
    finally:
        for kept in labs:
            kept.do("down", "--force")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as there are sockets below it."""
    made = Path(tempfile.mkdtemp(prefix="vh-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def both_work(said: Path) -> bool:
    """Whether the second host has finished an item, and each is in the middle of one."""
    text = said.read_text()
    begun = len(re.findall(r"^scenarios/\S+ $", text, re.MULTILINE))
    ended = len(re.findall(r"^\[gw\d\] .*(PASSED|FAILED|ERROR)", text, re.MULTILINE))
    return "[gw1] [" in text and begun - ended == 2


def test_of_two_hosts_one_dies_and_the_other_does_the_rest(folder: Path) -> None:
    with two_labs(folder) as (labs, config):
        argv = [
            *COMMAND,
            "run",
            *SCENARIOS,
            "-m",
            "not long",
            "-n",
            "2",
            "--results",
            str(folder / "results"),
        ]
        argv += ["--host", "ssh://one", "--host", "ssh://two", "--ssh-config", str(config)]
        argv += ["--link", "vsock,virtio-serial"]
        victim = labs[1].qemu
        with (folder / "said").open("wb") as out:
            run = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            until(
                lambda: both_work(folder / "said") or run.poll() is not None,
                Deadline(600 * slowness()),
                "both hosts at work",
            )
            os.kill(victim, signal.SIGKILL)
            code = run.wait(300 * slowness())
        finally:
            run.kill()
            run.wait()
        said = (folder / "said").read_text()
        assert code == 0, said
        check(said, folder / "results" / "latest")


def check(said: str, results: Path) -> None:
    """What the run says of its hosts; each item passed, with its evidence at home."""
    assert re.search(r"^RERUN scenarios/\S+ on host1: its worker was lost", said, re.MULTILINE), said
    assert "host1 was not replaced: ssh://root@127.0.0.1:" in said
    assert "host1: its evidence is lost" in said
    run = msgspec.json.decode((results / "run.json").read_bytes(), type=Run)
    assert {case.outcome for case in run.cases} == {CaseOutcome.PASSED}
    assert {case.host for case in run.cases} == {"host0", "host1"}
    assert any(note.startswith("rerun: ") for note in run.notes)
    assert 'name="host" value="host1"' in (results / "junit.xml").read_text()
    for case in run.cases:
        path, _, link = case.id.partition("::")
        evidence = results / f"{Path(path).stem}-{link}"
        assert (evidence / "verdict.json").exists(), f"{evidence} is not at home"
        assert (evidence / "trace.jsonl").stat().st_size
