"""``python -m tests.bench``: run benchmarks, gather what they measured, print it as a table.

Everything lands in a folder of its own below ``results/bench``, and ``results/bench.json`` is the last one's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from harness.host import speed
from tests.bench import summary

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent.relative_to(ROOT)


def main(argv: list[str]) -> int:
    """The exit code of the first pytest that failed, 0 if none did: a target that is missed fails nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", choices=["bench", "lifecycles", "soak"])
    parser.add_argument("--host", default="lab", help="where VMs run, as for vsock-harness run")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each comparison (default: 5)")
    parser.add_argument("-n", "--number", type=int, default=500, help="lifecycles (default: 500)")
    parser.add_argument("--minutes", type=int, default=30, help="of soaking (default: 30)")
    parser.add_argument("--labs", type=int, default=2, help="hosts that soak at once (default: 2)")
    parser.add_argument("--fresh-lab", action="store_true", help="boot labs instead of restoring a saved one")
    parser.add_argument("-k", dest="keyword", default="", help="only items that match, as for pytest")
    given = parser.parse_args(argv)
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = ROOT / "results" / "bench" / f"{stamp}-{given.what}"
    folder.mkdir(parents=True)
    codes = [_pytest(words, folder, given.keyword) for words in _runs(given)]
    found = summary.summarised(summary.read(folder), _about(folder, given))
    data = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
    for path in (folder / "bench.json", ROOT / "results" / "bench.json"):
        path.write_bytes(data)
    print(f"\n{summary.table(found)}\n\n{folder.relative_to(ROOT)}/bench.json")  # noqa: T201
    return next((code for code in codes if code), 0)


def _runs(given: argparse.Namespace) -> list[list[str]]:
    """The arguments of each pytest to run."""
    inside = [str(HERE / "inside"), "--host", given.host, *(["--fresh-lab"] if given.fresh_lab else [])]
    if given.what == "lifecycles":
        return [[*inside, "-m", "lifecycles", "-n", "1", f"--lifecycles={given.number}"]]
    if given.what == "soak":
        items = given.minutes * given.labs
        return [[*inside, "-m", "soak", "-n", str(given.labs), f"--soak-items={items}"]]
    return [
        [*inside, "-m", "not lifecycles and not soak", "-n", "1", f"--rounds={given.rounds}"],
        [str(HERE / "outside"), f"--rounds={given.rounds}", f"--bench-host={given.host}"],
    ]


def _pytest(words: list[str], folder: Path, keyword: str) -> int:
    argv = [sys.executable, "-P", "-m", "pytest", "-v", "--results", str(folder), *words]
    argv += ["-k", keyword] if keyword else []
    code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    return 0 if code == 5 and keyword else code  # nothing of this run matched


def _about(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    """What was asked, of which machine, and the versions that each run wrote."""
    versions = [json.loads(path.read_text()) for path in sorted(folder.glob("2*/versions.json"))]
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    return {
        "asked": vars(given),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "slowness": round(speed.measure(), 2),
        "versions": versions[:1],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
