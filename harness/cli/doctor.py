"""``vsock-harness doctor``: what this host can do, and the command that mends what it can't."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from harness.host import doctor
from harness.host.finding import Finding, Verdict
from harness.host.paths import Cache
from harness.image import build, qemu
from harness.image.store import Store

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_COLOUR = {Verdict.OK: "32", Verdict.UNKNOWN: "33", Verdict.NOT_NEEDED: "2"}
_BAD = "31"
_NARROWEST = 60
_FOR_A_FILE = 120


def add_parser(subparsers: Subparsers) -> None:
    """Add ``doctor`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this host can do, and how to mend what it can't",
        description="Probes this host by doing. Exit code 0 if VMs can run here in some way, 1 if in none.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--fresh", action="store_true", help="boot under KVM even if the answer is known")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Print what was found; 0 if at least one kind of host works here, 1 if none."""
    cache = Cache()
    findings = doctor.examine(available(Store(cache.root)), cache, fresh=args.fresh)
    choice = doctor.choose(findings)
    if args.json:
        print(json.dumps(as_data(findings, choice), indent=2))
    else:
        tty = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if tty else _FOR_A_FILE
        print(table(findings, width=width, colour=tty and "NO_COLOR" not in os.environ))
        print("\n".join(closing(findings, choice)))
    return 1 if choice.kind is doctor.Kind.NONE else 0


def available(store: Store) -> doctor.Available:
    """What the probes need to know of the images; builds none."""
    emulator, pod = store.find("qemu"), store.find("pod")
    return doctor.Available(
        qemu=qemu.of_image(emulator) if emulator else None,
        kernel=pod.file("vmlinux") if pod else None,
        tools=build.TOOLS,
    )


def as_data(findings: Iterable[Finding], choice: doctor.Choice) -> dict[str, object]:
    """What ``--json`` prints: ``findings``, and ``choice`` with ``kind`` and ``reason``."""
    return {
        "findings": [msgspec.to_builtins(finding) for finding in findings],
        "choice": {"kind": choice.kind.value, "reason": choice.reason},
    }


def table(findings: Iterable[Finding], *, width: int, colour: bool) -> str:
    """One block a finding: ability, verdict, what was seen, wrapped; below it the command that mends it."""
    rows = list(findings)
    ability = max(len(row.ability) for row in rows) + 2
    verdict = max(len(row.verdict) for row in rows) + 2
    indent = " " * (ability + verdict)
    lines = []
    for row in rows:
        code = _COLOUR.get(row.verdict, _BAD)
        shown = row.verdict.value.ljust(verdict)
        painted = f"\x1b[{code}m{shown}\x1b[0m" if colour else shown
        seen = textwrap.wrap(row.seen, max(width - len(indent), _NARROWEST)) or [""]
        lines.append(f"{row.ability.ljust(ability)}{painted}{seen[0]}")
        lines += [indent + more for more in seen[1:]]
        if row.mend and not row.fine:
            lines.append(f"{indent}mend: {row.mend}")  # never wrapped: it is to be copied
    return "\n".join(lines)


def closing(findings: Iterable[Finding], choice: doctor.Choice) -> list[str]:
    """Which kinds of host work here and why."""
    by_ability = {finding.ability: finding for finding in findings}
    lines = [""]
    for kind, lacking in (
        (doctor.Kind.LOCAL, doctor.lacking_local(by_ability)),
        (doctor.Kind.LAB, doctor.lacking_lab(by_ability)),
    ):
        names = ", ".join(f"{finding.ability} {finding.verdict}" for finding in lacking)
        lines.append(f"host {kind.value}: {f'no ({names})' if lacking else 'works'}")
    qemu_found = by_ability.get("qemu")
    if qemu_found is not None and not qemu_found.fine and choice.kind is not doctor.Kind.NONE:
        lines[-1] += f", once its images are built ({doctor.BUILD_IMAGES}, or the first run)"
    lines.append(f"--host auto takes: {choice.kind.value} ({choice.reason})")
    return lines
