"""One `vsock-harness run` of one scenario on one link, watched: how long each phase of it took."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from harness.model.trace import Event, What
from harness.run.tracefile import read_trace

ROOT = Path(__file__).resolve().parents[3]

COMMAND = (sys.executable, "-c", "from harness.cli.main import entry; entry()")
"""This checkout's vsock-harness."""

_STAGE = re.compile(r"lab: (restoring|booting) .*: done in ([\d.]+) s")


class Failed(Exception):
    """The run was not green; the text is what it said."""


class Watched(msgspec.Struct, frozen=True):
    """Seconds of the whole run, of its phases in their order, and of the lab until it is ready.

    `saved` tells that the run made what later ones find: a saved lab.
    """

    whole: float
    lab: float
    phases: dict[str, float]
    saved: bool


def run(scenario: str, link: str, results: Path, *arguments: str) -> Watched:
    """Run it and take it apart.

    :raise Failed: it was not green.
    """
    argv = [*COMMAND, "run", scenario]
    argv += ["--link", link, "-n", "1", "--results", str(results), *arguments]
    begun = time.monotonic()
    lines: list[tuple[float, str]] = []
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.monotonic() - begun, line.rstrip()))
    whole = time.monotonic() - begun
    if process.returncode:
        raise Failed("\n".join(line for _, line in lines))
    (item,) = (results / "latest").glob(f"*-{link}")
    return taken_apart(whole, lines, item, results / "latest" / "run.json")


def taken_apart(whole: float, lines: list[tuple[float, str]], item: Path, report: Path) -> Watched:
    """From the run's lines, each with the second it came at, its `run.json` and the item's evidence."""
    stages = [(at, found) for at, line in lines if (found := _STAGE.search(line))]
    lab = sum(float(found[2]) for _, found in stages)
    ready = stages[-1][0] if stages else 0.0
    (case,) = json.loads(report.read_text())["cases"]
    pod = json.loads((item / "facts.json").read_text())["seconds"]
    trace = read_trace(item / "trace.jsonl")
    of_clients = clients(trace)
    call, teardown = case["seconds"]["call"], case["seconds"]["teardown"]
    phases = {
        "start-up": ready - lab,
        "lab": lab,
        "template": pod.get("template", 0.0),
        "clone": sum(pod.get(name, 0.0) for name in ("clone", "plug", "identity", "hello")),
        **of_clients,
        "fork, record": call - sum(of_clients.values()) - pod.get("judge", 0.0),
        "judge": pod.get("judge", 0.0),
        "tear-down": teardown,
    }
    rest = whole - ready - sum(case["seconds"].values())
    phases["worker, report, end"] = rest
    return Watched(whole, lab, phases, any("saving one for all runs" in line for _, line in lines))


def clients(trace: tuple[Event, ...]) -> dict[str, float]:
    """The seconds of a trace, each in one phase only: while some connect, others are at work already.

    Work is from the first request to the last answer; to connect counts as far as nobody is at work.
    """
    asked, answered = _between(trace, What.ASKED, What.ANSWERED)
    connecting, connected = _between(trace, What.CONNECTING, What.CONNECTED)
    work = answered - asked
    connect = max(0.0, min(connected, asked) - connecting) + max(0.0, connected - max(connecting, answered))
    whole = trace[-1].at - trace[0].at
    return {
        "connect": connect,
        "work": work,
        "clients start and wait for each other": whole - connect - work,
    }


def _between(trace: tuple[Event, ...], first: What, last: What) -> tuple[float, float]:
    """The first event of one kind, the last of another."""
    begins = [event.at for event in trace if event.what is first]
    ends = [event.at for event in trace if event.what is last]
    return min(begins), max(ends)
