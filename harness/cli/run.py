"""``vsock-harness run``: a thin front on pytest and the harness's plugin."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.parsing import filled, positive, workers
from harness.lab import address
from harness.lab.state import OWN_KERNEL, kernel_words
from harness.model import asked
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.plan import Boot
from harness.model.scenario import SUFFIXES

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

SCENARIOS = Path("scenarios")
SHIPPED = Path(__file__).resolve().parents[2] / SCENARIOS
"""The scenarios that belong to this checkout."""

RUN = (*SUFFIXES, ".py")
"""How the name of a file ends that can be run: a scenario's, a test module's."""

_EXAMPLES = """\
examples:
  vsock-harness run                                     all scenarios, on the best host that works here
  vsock-harness run scenarios/pod-diagram.yaml          one scenario, on each of its links
  vsock-harness run scenarios/pod-diagram.yaml::vsock   on one
  vsock-harness run --list mine.yaml                    check a file and list its items; boots nothing
  vsock-harness run --link vsock,virtio-serial -n 2     two links, two workers (two labs, where labs are used)
  vsock-harness run -k 'serial and not stale'           by name, as pytest's -k
  vsock-harness run --host ssh://me@kvm-box             on another machine
  vsock-harness run --lab-kernel bookworm               in labs whose kernel is Debian 12's
  vsock-harness run --guest debian                      in a whole Debian instead of a guest of ours
  vsock-harness run -- --durations=5 --junitxml=out.xml whatever else pytest knows, behind --

Evidence (traces, consoles, QMP transcripts, JUnit XML) goes to results/TIME/; results/latest is the newest.
Exit codes are pytest's: 0 all passed, 1 some failed, 2 interrupted, 4 wrong usage, 5 nothing to run; and 141:
whoever read the output left (`| head`), and the run was ended as by Ctrl-C.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``run`` to the command's subparsers."""
    made = subparsers.add_parser(
        "run",
        usage="%(prog)s [PATH ...] [options] [-- PYTEST ARGS]",
        description="Runs scenario files: one test for each scenario and link.",
        epilog=_EXAMPLES,
    )
    made.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="scenario files, folders of them, or test modules (default: ./scenarios if there is one, "
        "else those of the checkout)",
    )
    made.add_argument(
        "--list",
        action="store_true",
        dest="lists",
        help="boot nothing: check the files, and list what would run; the ids are paths to run",
    )
    made.add_argument(
        "--link",
        action="append",
        metavar="LINK",
        help=f"only these links, with commas between them or given more than once: {', '.join(Link)}",
    )
    _hosts(made)
    _choosing(made)
    made.add_argument(
        "--boot",
        choices=list(map(str, Boot)),
        help="every scenario's VM so, whatever its file says: cold, from nothing, or clone",
    )
    made.add_argument("--strict", action="store_true", help="what a host can't do is an error, not a skip")
    made.add_argument(
        "--results",
        type=filled,
        metavar="DIR",
        help="where the folder of evidence is made (default: results)",
    )
    _lab(made)
    _pod(made)
    made.add_argument("-x", action="store_true", dest="first", help="stop at the first failure")
    loud = made.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="a character a test instead of a line")
    loud.add_argument("-v", "--verbose", action="store_true", help="more about each failure")
    made.set_defaults(main=main)


def _hosts(made: argparse.ArgumentParser) -> None:
    """Where, and with how many workers."""
    made.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        help="where VMs run: auto (default: the best that works), local, lab, ssh://user@host[:port]; "
        "ssh:// may be given more than once; none: for tests that boot labs of their own (tests/hosts)",
    )
    made.add_argument(
        "--ssh-config",
        type=filled,
        metavar="FILE",
        help="OpenSSH client configuration that knows the ssh:// hosts (default: ~/.ssh/config)",
    )
    made.add_argument(
        "-n",
        type=workers,
        dest="workers",
        metavar="N",
        help="workers, shared out to the hosts: a number from 1, or auto: as many as there are labs, or "
        "cores if VMs run here; labs are one a core, and four, at most",
    )


def _lab(made: argparse.ArgumentParser) -> None:
    """What labs are like."""
    made.add_argument("--lab-memory", type=positive, metavar="MIB", help="memory of one lab (default: 4096)")
    made.add_argument(
        "--fresh-lab", action="store_true", help="boot labs anew, don't restore the one saved by earlier runs"
    )
    made.add_argument(
        "--lab-kernel",
        type=filled,
        metavar="RELEASE",
        help=f"labs with the kernel of this Debian release: {kernel_words()} (default: {OWN_KERNEL})",
    )
    made.add_argument(
        "--with-image",
        type=filled,
        action="append",
        metavar="NAME",
        help="also an image built on demand: debian",
    )


def _pod(made: argparse.ArgumentParser) -> None:
    """What pods are like."""
    made.add_argument(
        "--guest",
        type=filled,
        metavar="NAME",
        help="the image that pods' guests are: pod (default, Linux 6.12), pod-bullseye (5.10), "
        "pod-bookworm (6.1), pod-forky (7.2), debian (Debian with its own systemd and sshd; the agent "
        "comes by SSH)",
    )
    made.add_argument(
        "--proxy",
        type=filled,
        metavar="COMMAND",
        help="another proxy for serial-proxy, with {listen}, {mux} and maybe {id} in it: "
        "'./kata-proxy -listen-socket unix://{listen} -mux-socket {mux} -sandbox {id}'. A file here is sent "
        "to where the VMs run; a name without a slash is a program there",
    )


def _choosing(made: argparse.ArgumentParser) -> None:
    """Which of the tests, as pytest has it."""
    made.add_argument("-k", dest="expression", metavar="EXPR", help="only tests whose names match")
    made.add_argument(
        "-m", dest="markers", metavar="EXPR", help="only tests whose markers match: 'not long', 'long'"
    )


def main(args: argparse.Namespace) -> int:
    """Become pytest; does not return.

    :raise UsageError: when a path is not there.
    """
    argv = [sys.executable, "-P", "-m", "pytest", *arguments(args, Path.cwd())]
    sys.stdout.flush()
    os.execv(sys.executable, argv)


def arguments(args: argparse.Namespace, cwd: Path) -> list[str]:
    """What pytest is called with. `cwd` is what relative paths are relative to.

    :raise UsageError: when a path is not there, or no host or link is called so; names near ones.
    """
    address.asked(args.host or [])
    asked.links(args.link or [])
    made = ["-q"] if args.quiet else ["-vv"] if args.verbose else ["-v"]
    made = ["--collect-only", "-q"] if args.lists else made
    for host in args.host or ["auto"]:
        made += ["--host", host]
    made += [f"--ssh-config={args.ssh_config}"] if args.ssh_config else []
    for link in args.link or []:
        made += ["--link", link]
    made += ["-n", args.workers] if args.workers else []
    made += ["-k", args.expression] if args.expression else []
    made += ["-m", args.markers] if args.markers else []
    made += ["--boot", args.boot] if args.boot else []
    made += ["--strict-host"] if args.strict else []
    made += ["--results", args.results] if args.results else []
    made += ["--lab-memory", str(args.lab_memory)] if args.lab_memory else []
    made += ["--fresh-lab"] if args.fresh_lab else []
    made += ["--lab-kernel", args.lab_kernel] if args.lab_kernel else []
    made += ["--guest", args.guest] if args.guest else []
    made += [f"--proxy={args.proxy}"] if args.proxy else []
    for name in args.with_image or []:
        made += ["--with-image", name]
    made += ["-x"] if args.first else []
    return [*made, *args.rest, *paths(args.paths, cwd)]


def paths(given: list[str], cwd: Path) -> list[str]:
    """The paths to run; those given if they are there and can be run.

    :raise UsageError: when one is not there or can't be, or none is given and there are no scenarios.
    """
    for word in given:
        _check(word, cwd)
    if given:
        return given
    if (cwd / SCENARIOS).is_dir():
        return [str(SCENARIOS)]
    if SHIPPED.is_dir():
        return [str(SHIPPED)]
    raise UsageError(f"no scenarios in {cwd} or {SHIPPED.parent}", hint="give a path: vsock-harness run PATH")


def _check(word: str, cwd: Path) -> None:
    """:raise UsageError: a path, with or without ``::NAME``, is not there or can't be run."""
    path, *names = word.split("::")
    place, hint = cwd / path, "vsock-harness run --help"
    if not path:
        raise UsageError(f"no file or folder is named by {word!r}", hint=hint)
    if not place.exists():
        if place.is_symlink():
            raise UsageError(f"{path}: a link to {place.readlink()}, which leads to no file", hint=hint)
        near = _near(path, cwd)
        also = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"{path}: no such file or folder{also}", hint=hint)
    if place.is_file() and place.suffix not in RUN:
        small = Path(path).with_suffix(place.suffix.lower())
        if small.suffix in RUN:
            hint = f"mv {shlex.quote(path)} {shlex.quote(str(small))}"
        raise UsageError(
            f"{path}: what is run is called NAME.yaml or NAME.yml (a scenario), or NAME.py", hint=hint
        )
    if place.is_dir() and names:
        raise UsageError(
            f"{word}: {path} is a folder; a scenario's link is FILE::LINK, a test FILE::TEST",
            hint=f"vsock-harness run --list {shlex.quote(path)}",
        )


def _near(path: str, cwd: Path) -> list[str]:
    """Up to three paths that may have been meant: as written from `cwd`, scenarios by their bare name too."""
    wanted = Path(path)
    places = dict.fromkeys([wanted.parent, SCENARIOS, SHIPPED])
    found: dict[str, str] = {}
    for place in places:
        if not (cwd / place).is_dir():
            continue
        for entry in sorted((cwd / place).iterdir()):
            if entry.is_dir() or (entry.suffix in RUN and entry.is_file()):
                found.setdefault(entry.stem, str(place / entry.name))
    return [found[stem] for stem in difflib.get_close_matches(wanted.stem, found, n=3)]
