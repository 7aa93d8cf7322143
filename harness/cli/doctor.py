"""``vsock-harness doctor``: what this host can do, what its Kata does, and how to mend the rest."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.cli import fixing
from harness.host import doctor, probe_kata
from harness.host.finding import Finding, Probe, Verdict
from harness.host.kata import Host, Release
from harness.host.paths import Cache
from harness.host.probe_vhost import VhostVsock
from harness.host.probes import Kernel, Vmci
from harness.image import build, qemu
from harness.image.store import Store
from harness.model.errors import UsageError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_COLOUR = {Verdict.OK: "32", Verdict.UNKNOWN: "33", Verdict.NOT_NEEDED: "2"}
_BAD = "31"
_NARROWEST = 60
_FOR_A_FILE = 120

_NAMED = 6
"""Files that are named at most where a folder was given."""

_EPILOG = """\
examples:
  vsock-harness doctor                      can VMs run here, and how?
  vsock-harness doctor --fix                load modules, join group kvm and the like; asks before each
  vsock-harness doctor --kata               the Kata of this host, and what it needs of it
  vsock-harness doctor --kata conf.toml     a file that containerd's ConfigPath names, and this host
  vsock-harness doctor --kata conf.toml --kata-version 1.12.0 --file-only
                                            a file from elsewhere: nothing of this host is looked at

exit codes:
  0 VMs can run here in some way, 1 in none; with --kata: 0 nothing is to be mended, 1 something is
  2 wrong usage; with --fix: nothing could be asked; else as above, of what is so afterwards
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``doctor`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this host can do, and how to mend what it can't",
        description="Probes this host by doing, or reads Kata Containers' configuration.",
        epilog=_EPILOG,
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    output.add_argument(
        "--fix", action="store_true", help="run the mending commands that are safe, each after a yes"
    )
    parser.add_argument("--yes", action="store_true", help="with --fix: ask nothing")
    parser.add_argument("--fresh", action="store_true", help="boot under KVM even if the answer is known")
    parser.add_argument(
        "--kata",
        nargs="?",
        const="",
        metavar="FILE",
        help="what Kata's version and configuration say of vsock, and whether this host has what they need; "
        "without FILE, the configuration that Kata would take here",
    )
    parser.add_argument("--kata-version", metavar="X.Y.Z", help="with --kata: the version, if you know it")
    parser.add_argument("--file-only", action="store_true", help="with --kata FILE: say nothing of this host")
    parser.set_defaults(main=main)


class _Ending(NamedTuple):
    """What findings come to: as text, as part of the JSON object, as the exit code."""

    lines: list[str]
    data: dict[str, object]
    code: int


def main(args: argparse.Namespace) -> int:
    """Print what was found, and with ``--fix`` mend it; the exit code is for what is so at the end.

    :raise UsageError: for options that don't go together, a FILE that isn't there, and ``--fix`` without a
        terminal to ask at.
    """
    terminal = sys.stdin.isatty()
    _check(args, terminal=terminal)
    if args.kata is None:
        cache = Cache()
        probes = doctor.all_probes(available(Store(cache.root)), cache, fresh=args.fresh)
        findings, end = [probe.look() for probe in probes], _of_host
    else:
        probes, findings = _kata(args.kata, args.kata_version, file_only=args.file_only)
        end = _of_file if args.file_only else _of_kata
    if args.json:
        ending = end(findings)
        print(json.dumps({**as_data(findings), **ending.data}, indent=2))
        return ending.code
    tty = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else _FOR_A_FILE
    print(table(findings, width=width, colour=tty and "NO_COLOR" not in os.environ), flush=True)
    if args.fix:
        findings = fixing.fix(findings, probes, fixing.Dialogue(yes=args.yes, terminal=terminal))
    ending = end(findings)
    print("\n".join(["", *ending.lines]))
    return ending.code


def _check(args: argparse.Namespace, *, terminal: bool) -> None:
    """:raise UsageError: see `main`."""
    hint = "vsock-harness doctor --help"
    if args.yes and not args.fix:
        raise UsageError("--yes says yes to what --fix asks, and --fix was not given", hint=hint)
    if args.kata_version is not None and args.kata is None:
        raise UsageError("--kata-version says what --kata reads, and --kata was not given", hint=hint)
    if args.file_only and not args.kata:
        raise UsageError("--file-only is about the FILE of --kata FILE, and none was given", hint=hint)
    if args.kata is not None and args.fresh:
        raise UsageError("--fresh boots under KVM, which --kata does not look at", hint=hint)
    if args.kata_version is not None and _release(args.kata_version) is None:
        known = "a version such as 1.12.0 or 3.2 is allowed"
        raise UsageError(f"--kata-version {args.kata_version!r}: {known}", hint=hint)
    if args.kata and Path(args.kata).is_dir():
        raise _no_file(Path(args.kata))
    if args.kata and not Path(args.kata).is_file():
        raise UsageError(
            f"--kata {args.kata}: there is no such file", hint="without FILE, doctor looks for one"
        )
    if args.fix and not args.yes and not terminal:
        raise UsageError(
            "--fix asks before each command, and there is no terminal to ask at; nothing was done",
            hint="vsock-harness doctor shows the commands; doctor --fix --yes runs those that are safe",
        )


def _no_file(folder: Path) -> UsageError:
    """The error for a folder where a file is wanted; names those of its files that may be meant."""
    there = sorted(folder.glob("configuration*.toml")) or sorted(folder.glob("*.toml"))
    if not there:
        hint = "Kata's is called configuration.toml; without FILE, doctor looks for it"
        return UsageError(f"--kata {folder}: a folder, and no configuration*.toml is in it", hint=hint)
    names = ", ".join(path.name for path in there[1:_NAMED]) + (", …" if len(there) > _NAMED else "")
    hint = f"vsock-harness doctor --kata {there[0]}{f'; also there: {names}' if names else ''}"
    return UsageError(f"--kata {folder}: a folder; one FILE is wanted", hint=hint)


def _release(version: str) -> Release | None:
    """A ``v`` before it is as its tags are often written."""
    return Release.parse(version.removeprefix("v"), "--kata-version")


def _kata(file: str, version: str | None, *, file_only: bool) -> tuple[list[Probe], list[Finding]]:
    """What Kata needs of this host, but for `file_only`; and what was found, with Kata's behind it."""
    release = _release(version) if version is not None else None
    examined = probe_kata.examine(Host(os.environ), Path(file) if file else None, release)
    needed: list[Probe] = [Kernel(), VhostVsock(), Vmci()]
    probes = needed if examined.vhost and not file_only else []
    return probes, [*(probe.look() for probe in probes), *examined.findings]


def _of_kata(findings: Iterable[Finding], subject: str = "Kata and vsock", more: str = "") -> _Ending:
    wrong = [f"{finding.ability} {finding.verdict}" for finding in findings if not finding.fine]
    verdict = f"not as it should be ({', '.join(wrong)})" if wrong else "as it should be"
    return _Ending([f"{subject}: {verdict}{more}"], {}, 1 if wrong else 0)


def _of_file(findings: Iterable[Finding]) -> _Ending:
    """As `_of_kata`, but of a file whose host nobody has looked at."""
    return _of_kata(findings, "Kata's configuration file", "; this host was not looked at")


def _of_host(findings: Iterable[Finding]) -> _Ending:
    rows = list(findings)
    choice = doctor.choose(rows)
    data: dict[str, object] = {"choice": {"kind": choice.kind.value, "reason": choice.reason}}
    return _Ending(closing(rows, choice), data, 1 if choice.kind is doctor.Kind.NONE else 0)


def available(store: Store) -> doctor.Available:
    """What the probes need to know of the images; builds none."""
    emulator, pod = store.find("qemu"), store.find("pod")
    return doctor.Available(
        qemu=qemu.of_image(emulator) if emulator else None,
        kernel=pod.file("vmlinux") if pod else None,
        tools=build.TOOLS,
    )


def as_data(findings: Iterable[Finding]) -> dict[str, object]:
    """What ``--json`` prints of findings; of this host also ``choice`` with ``kind`` and ``reason``."""
    return {"findings": [msgspec.to_builtins(finding) for finding in findings]}


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
        room = max(width - len(indent), _NARROWEST)
        # paths and names are to be copied, so they stay whole
        seen = textwrap.wrap(row.seen, room, break_on_hyphens=False, break_long_words=False) or [""]
        lines.append(f"{row.ability.ljust(ability)}{painted}{seen[0]}")
        lines += [indent + more for more in seen[1:]]
        if row.mend and not row.fine:
            lines.append(f"{indent}mend: {row.mend}")  # never wrapped: it is to be copied
    return "\n".join(lines)


def closing(findings: Iterable[Finding], choice: doctor.Choice) -> list[str]:
    """Which kinds of host work here and why."""
    by_ability = {finding.ability: finding for finding in findings}
    lines = []
    for kind, lacking in (
        (doctor.Kind.LOCAL, doctor.lacking_local(by_ability)),
        (doctor.Kind.LAB, doctor.lacking_lab(by_ability)),
    ):
        names = ", ".join(f"{finding.ability} {finding.verdict}" for finding in lacking)
        lines.append(f"host {kind.value}: {f'no ({names})' if lacking else 'works'}")
    if doctor.lacking_local(by_ability) and not doctor.lacking_pods(by_ability):
        lines[0] += (
            "; all links but vsock run all the same: vsock-harness run --host local --link hybrid-vsock"
        )
    qemu_found = by_ability.get("qemu")
    if qemu_found is not None and not qemu_found.fine and choice.kind is not doctor.Kind.NONE:
        lines[-1] += f", once its images are built ({doctor.BUILD_IMAGES}, or the first run)"
    lines.append(f"--host auto takes: {choice.kind.value} ({choice.reason})")
    return lines
