"""``vsock-harness results``: the runs whose evidence is here, and the removal of older ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.parsing import Parser, positive
from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

RESULTS = Path("results")
KEPT = 10

OF_A_RUN = ("run.json", "versions.json")
"""Files of which a run's folder has one: at its end, and from its beginning."""

_SHOWN = 4
"""Other folders with runs that are named at most."""

_EXAMPLES = """\
examples:
  vsock-harness results                     the runs of ./results, the newest first
  vsock-harness results prune --dry-run     what would be removed
  vsock-harness results prune --keep 3      all but the three newest

Evidence is kept for good: nothing but prune removes any. It leaves alone what `latest` leads to, a run that
may still go on, and each folder that has another name than a run gives it: rename what you want to keep.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``results`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "results",
        description="Lists the runs whose evidence is kept, and removes older ones.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(main=listed, folder=RESULTS)
    actions = parser.add_subparsers(
        metavar="ACTION", title="actions (list, if none is given)", parser_class=Parser
    )
    one = actions.add_parser("list", help="each run: how its tests ended, how big it is")
    _add_folder(one)
    one.set_defaults(main=listed)
    one = actions.add_parser("prune", help="remove all but the newest")
    _add_folder(one)
    one.add_argument("--keep", type=positive, default=KEPT, metavar="N", help=f"how many (default: {KEPT})")
    one.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    one.set_defaults(main=pruned)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        type=Path,
        default=RESULTS,
        help=f"what --results of the runs was (default: {RESULTS})",
    )


def listed(args: argparse.Namespace) -> int:
    """Print a line for each run.

    :raise UsageError: there is no such folder.
    """
    from harness.cli.imagetable import size
    from harness.report import folders

    found = folders.runs(_there(args.folder))
    for past in found:
        ended = ", ".join(f"{count} {word}" for word, count in past.counts.items()) or "no test"
        print(f"{past.path}  {size(past.bytes):>8}  {ended if past.run else 'no end was written'}")
    if not found:
        print(f"no run in {args.folder}{_elsewhere(args.folder)}")
    return 0


def pruned(args: argparse.Namespace) -> int:
    """Remove the older runs, and say how much that was.

    :raise UsageError: there is no such folder.
    :raise InfrastructureError: one can't be removed.
    """
    from harness.cli.imagetable import size
    from harness.report import folders

    would = "would remove" if args.dry_run else "removed"
    total = 0
    found = folders.older(_there(args.folder), args.keep)
    for past in found:
        taken = past.bytes
        if not args.dry_run:
            past.remove()
        print(f"{would} {past.path}: {size(taken)}", flush=True)
        total += taken
    other = _elsewhere(args.folder)
    nothing = f"no run in {args.folder}{other}" if other else "nothing to remove"
    print(f"{would} {size(total)} in all" if found else nothing)
    return 0


def _there(folder: Path) -> Path:
    """:raise UsageError: it is no folder, or that of one run."""
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder", hint="vsock-harness run makes it; or name another")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", hint="name what --results of the runs was")
    if any((folder / name).is_file() for name in OF_A_RUN):
        raise UsageError(
            f"{folder}: the folder of one run, not of runs",
            hint=f"the runs: {folder.resolve().parent}; this one's report: vsock-harness report {folder}",
        )
    return folder


def _elsewhere(folder: Path) -> str:
    """Where there are runs below a folder that has none itself, as `make kernels` leaves them."""
    from harness.report import folders

    if folders.runs(folder):
        return ""
    below = sorted({path.parent for deep in ("*", "*/*") for path in folder.glob(f"{deep}/{folders.LATEST}")})
    shown = ", ".join(map(str, below[:_SHOWN])) + (", …" if len(below) > _SHOWN else "")
    return f"; there are some in {shown}" if below else ""
