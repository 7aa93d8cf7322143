"""The ``vsock-harness`` command: finds the subcommand, shows errors, decides the exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness.cli.parsing import Parser, split
from harness.host.interrupts import Terminated, terminable
from harness.host.pipes import PIPE_CLOSED, hush
from harness.model.errors import HarnessError, HostUnfit, UsageError

COMMANDS = {
    "run": "run scenarios: boot VMs, let clients talk to them, judge what they saw",
    "report": "write the report of a run again, from its results folder",
    "results": "list the runs whose evidence is kept, remove older ones",
    "doctor": "what this host can do, and how to mend what it can't",
    "images": "list, build, check and remove the images that VMs are made of",
    "lab": "keep a lab up between runs, look at it, get a shell in it",
    "schema": "print the JSON Schema of scenario files",
}
"""Each is a module of this package, imported when it is chosen: `--help` stays fast."""

TAKES_REST = ("run", "lab")
"""Those that pass on what stands behind `--`."""

_EXAMPLES = """\
examples:
  vsock-harness doctor                      can VMs run here?
  vsock-harness run                         all scenarios, on the best host that works
  vsock-harness run scenarios/pod-diagram.yaml --link vsock
  vsock-harness lab up                      a lab that stays, so that runs need not boot one
  vsock-harness COMMAND --help              more about one command

exit codes:
  run: pytest's (0 all passed, 1 some failed, 2 interrupted, 4 wrong usage, 5 nothing to run)
  others: 0 done, 1 failed, 2 wrong usage or unfit host, 130 interrupted
  141 whoever read the output left before its end, as head(1) does
"""

PYTEST_USAGE = 4
"""pytest's code of wrong usage, which is `run`'s: 2 is that of an interrupted one."""

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

TERMINATED = 143
"""128 + SIGTERM."""


def entry() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that has no such letter sees its number
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit code. Errors are lines on stderr, never a traceback."""
    try:
        with terminable():
            code = _command(argv)
        sys.stdout.flush()
    except HarnessError as error:
        print(f"vsock-harness: error: {error}", file=sys.stderr)
        if not isinstance(error, UsageError | HostUnfit):
            return 1
        return PYTEST_USAGE if argv[:1] == ["run"] else 2
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        print(f"vsock-harness: {'ended by SIGTERM' if terminated else 'interrupted'}", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED
    except BrokenPipeError:
        hush()
        return PIPE_CLOSED
    except OSError as error:
        if error.filename is None:
            raise  # nothing that a user can make sense of: a bug
        print(f"vsock-harness: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return code


def _command(argv: Sequence[str]) -> int:
    name = argv[0] if argv else ""
    top = Parser(
        prog="vsock-harness",
        description="Boots real QEMU VMs with vhost-vsock-pci and checks what a VM's host sees of vsock and "
        "of serial ports.",
        epilog=_EXAMPLES,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    for known, text in COMMANDS.items():
        if known == name:
            importlib.import_module(f"harness.cli.{name}").add_parser(commands)
        else:
            commands.add_parser(known, help=text)
    if not argv:
        print(top.format_help(), end="", file=sys.stderr)
        return 2
    try:
        if name not in COMMANDS:
            top.parse(argv)
            raise UsageError("no command given", hint="vsock-harness --help")
        return _run(name, commands.choices[name], argv[1:])
    except SystemExit as end:  # argparse's --help
        return int(end.code or 0)


def _run(name: str, parser: Parser, argv: Sequence[str]) -> int:
    words, rest = split(argv)
    if rest and name not in TAKES_REST:
        raise UsageError(f"{name} takes nothing behind --", hint=f"vsock-harness {name} --help")
    args = parser.parse(words)
    args.rest = rest
    return int(args.main(args))


class _Version(argparse.Action):
    """Reads the version only when it is asked for: finding it costs more than all the rest of --help."""

    def __call__(self, *ignored: object) -> NoReturn:
        from importlib.metadata import version

        from harness.host.checkout import commit

        of = commit()
        print(f"vsock-harness {version('vsock-harness')}{f' (commit {of})' if of else ''}")
        raise SystemExit(0)


if __name__ == "__main__":
    entry()
