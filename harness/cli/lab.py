"""``vsock-harness lab``: a lab that stays up between runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import labstatus
from harness.cli.parsing import Parser, positive
from harness.host.paths import cache_root, private_base
from harness.host.runfolder import RunFolder
from harness.image.store import Store
from harness.lab import holder, keeping, keys, lab, openssh, saved
from harness.lab.kept import ALIAS, Keep, Kept
from harness.lab.state import OWN_KERNEL, State, kernel_words, kernels
from harness.model.errors import UsageError
from harness.report.progress import Lines
from harness.run.states import lab_identity

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

_EXAMPLES = """\
A lab is a VM that brings /dev/kvm and /dev/vhost-vsock along, for machines that lack them. `run` boots its
own and ends it; one that `lab up` booted stays until `lab down`, and `run` uses it if its images are today's,
for one worker: not with -n 2, --lab-memory, --lab-kernel, --fresh-lab, --with-image or --guest.

examples:
  vsock-harness lab up                      boot it, and come back when it is ready
  vsock-harness lab up --state not-loaded --kernel bookworm
                                            one that lacks something, for `doctor` to find
  vsock-harness lab status                  exit code 0 if it is up, 3 if not (as systemctl)
  vsock-harness lab shell                   a shell in it, as root
  vsock-harness lab shell -- lsmod          a command in it; its exit code is passed on
  vsock-harness lab shell -- 'dmesg | tail' a single word is a line for the shell there
  vsock-harness lab down                    end it; nothing is left
"""

DOWN = 3
"""As systemctl has it for a unit that is not running."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``lab`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "lab", description="Boots, shows, enters and ends a lab that stays up.", epilog=_EXAMPLES
    )
    parser.set_defaults(main=status, json=False)
    actions = parser.add_subparsers(
        metavar="ACTION", title="actions (status, if none is given)", parser_class=Parser
    )
    states = "\n".join(f"  {state:<12}{state.about}" for state in State)
    one = actions.add_parser(
        "up",
        help="boot a lab that stays, unless one is up",
        description="Boots a lab, or restores one, that stays until `lab down`; or says that one is up.",
        epilog=f"states:\n{states}\n",
    )
    one.add_argument(
        "--memory", type=positive, metavar="MIB", help=f"its memory in MiB (default: {lab.MEMORY_MIB})"
    )
    one.add_argument(
        "--fresh",
        action="store_true",
        help="end the one that is up first; boot, don't restore",
    )
    one.add_argument(
        "--state",
        choices=list(map(str, State)),
        metavar="STATE",
        help=f"what `doctor` shall find there, see below (default: {State.LOADED})",
    )
    one.add_argument(
        "--kernel",
        choices=kernels(),
        metavar="RELEASE",
        help=f"of which Debian release its kernel shall be: {kernel_words()} (default: {OWN_KERNEL})",
    )
    one.set_defaults(main=up)
    one = actions.add_parser("status", help="is one up, since when, where, how big, what runs in it")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(main=status)
    one = actions.add_parser(
        "shell", help="a shell or a command in it", usage="%(prog)s [-h] [-- COMMAND [ARGUMENT ...]]"
    )
    one.set_defaults(main=shell)
    one = actions.add_parser("down", help="end it; returns when nothing of it is left")
    one.add_argument("--force", action="store_true", help="even if a run uses it")
    one.set_defaults(main=down)


def up(args: argparse.Namespace) -> int:
    """Boot a lab that outlives this command, or say that one is up.

    :raise UsageError: one is up that is not as asked for, or is in use and should be booted afresh.
    :raise HostUnfit, InfrastructureError: it does not come up.
    """
    _no_rest(args)
    if args.memory and args.memory < lab.LEAST_MIB:
        raise UsageError(f"--memory {args.memory}: a lab needs at least {lab.LEAST_MIB} MiB")
    keep, progress = Keep(), Lines()
    store = Store(cache_root())
    memory = args.memory or lab.MEMORY_MIB
    if keep.is_changing():
        print("another command boots or ends the lab; waiting for it", file=sys.stderr)
    with keep.changing() as lock:
        kept = keep.find()
        if kept is not None and not args.fresh:
            _check_same(args, kept)
            print("a lab is up already")
            _show(keep, kept, store)
            return 0
        state, kernel = State(args.state or State.LOADED), args.kernel or OWN_KERNEL
        images = holder.images_of(store, kernel, progress)
        if kept is not None:
            _end(keep, kept, progress, force=False)
        usual = not args.fresh and state is State.LOADED and kernel == OWN_KERNEL
        with saved_lab(images, memory) if usual else contextlib.nullcontext() as found:
            how = "booting" if found is None else "restoring"
            with progress.stage(f"lab: {how}, {memory} MiB"):
                kept = keeping.start(keep, lock, keeping.command(memory, found, state, kernel))
    how = "restored" if kept.restored else "booted"
    print(f"the lab is up: {kept.lab.address}, {how} in {kept.lab.boot_seconds:.0f} s")
    print("enter it: vsock-harness lab shell    end it: vsock-harness lab down")
    return 0


def _check_same(args: argparse.Namespace, kept: Kept) -> None:
    """:raise UsageError: the lab that is up is not as asked for."""
    differs = {
        "memory": (args.memory, kept.memory_mib, f"{kept.memory_mib} MiB"),
        "state": (args.state, kept.state, f"state {kept.state}"),
        "kernel": (args.kernel, kept.kernel, f"kernel {kept.kernel}"),
    }
    for option, (asked, there, words) in differs.items():
        if asked not in (None, there):
            hint = f"vsock-harness lab up --fresh --{option} {asked}"
            raise UsageError(f"a lab with {words} is up", hint=hint)


@contextlib.contextmanager
def saved_lab(images: lab.LabImages, memory_mib: int) -> Iterator[Path | None]:
    """The saved lab that runs restore, if there is one of these images and size."""
    pair = keys.ensure(cache_root() / "keys")
    wish = lab.Wish(images=images, pair=pair, memory_mib=memory_mib)
    with saved.labs().using(lab_identity(wish)) as folder:
        yield folder


def status(args: argparse.Namespace) -> int:
    """Print how the lab is: 0 if it is up, 3 if it is down or on its way, 1 if it does not answer."""
    _no_rest(args)
    keep = Keep()
    kept = keep.find()
    if kept is None:
        state = "changing" if keep.is_changing() else "down"
        if args.json:
            print(json.dumps({"state": state}, indent=2))
        else:
            print("a command boots or ends it right now" if state == "changing" else "down")
            if state == "down" and keep.log.exists():
                said = [
                    line for line in keep.log.read_text(errors="replace").splitlines() if "holder: " in line
                ]
                print(f"the last one: {said[-1] if said else 'its holder was killed'}; logs: {keep.root}")
        return DOWN
    seen = _show(keep, kept, Store(cache_root()), as_json=args.json)
    return 0 if seen.answers else 1


def _show(keep: Keep, kept: Kept, store: Store, *, as_json: bool = False) -> labstatus.Status:
    seen = labstatus.look(keep, kept, store)
    print(json.dumps(seen.as_data(), indent=2) if as_json else "\n".join(seen.lines()))
    return seen


def shell(args: argparse.Namespace) -> int:
    """Become an OpenSSH client in the lab; does not return.

    :raise UsageError: no lab is up.
    :raise HostUnfit: there is no OpenSSH client.
    """
    keep = Keep()
    if keep.find() is None:
        raise UsageError("no lab is up", hint="vsock-harness lab up")
    ssh = openssh.program()
    sys.stdout.flush()
    os.execv(ssh, ssh_command(keep, args.rest, terminal=sys.stdin.isatty() and sys.stdout.isatty()))


def ssh_command(keep: Keep, words: list[str], *, terminal: bool) -> list[str]:
    """The client's command line. Several words arrive as they are; a single one is a line for the shell."""
    line = words if len(words) < 2 else [shlex.join(words)]
    return ["ssh", "-F", str(keep.ssh_config), *(["-t"] if terminal else []), ALIAS, *line]


def down(args: argparse.Namespace) -> int:
    """End the lab, if one is up, and remove what is left of one that died.

    :raise UsageError: a run uses it.
    :raise InfrastructureError: something of it is still there.
    """
    _no_rest(args)
    keep, progress = Keep(), Lines()
    if keep.is_changing():
        print("another command boots or ends the lab; waiting for it", file=sys.stderr)
    with keep.changing():
        kept = keep.find()
        if kept is not None:
            _end(keep, kept, progress, force=args.force)
        keep.clean()
        for path in RunFolder.sweep(private_base()):
            print(f"removed {path}, which a dead run left")
    print("the lab is down" if kept else "no lab was up")
    return 0


def _end(keep: Keep, kept: Kept, progress: Lines, *, force: bool) -> None:
    with keep.unlent() as user:
        if user is not None and not force:
            raise UsageError(
                f"a run (process {user}) uses the lab",
                hint="wait for it, or: vsock-harness lab down --force",
            )
        with progress.stage("lab: ending"):
            note = keeping.end(keep, kept)
    if note:
        print(f"vsock-harness: warning: {note}", file=sys.stderr)


def _no_rest(args: argparse.Namespace) -> None:
    if args.rest:
        raise UsageError("only `lab shell` takes a command behind --", hint="vsock-harness lab --help")
