"""``vsock-harness report``: writes the report of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

LATEST = Path("results/latest")

_EXAMPLES = """\
examples:
  vsock-harness report                            of the newest run: results/latest/report.html
  vsock-harness report results/20260102-030405-ab12

A run writes both files itself at its end. This makes them anew from the folder's other files, say after an
update of vsock-harness, of results from elsewhere (a CI's artifact), or of a run that was killed.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``report`` to the command's subparsers."""
    made = subparsers.add_parser(
        "report",
        description="Writes a run's report.html and summary.md into its results folder.",
        epilog=_EXAMPLES,
    )
    made.add_argument(
        "folder",
        nargs="?",
        metavar="RESULTS_FOLDER",
        type=Path,
        default=LATEST,
        help=f"a folder below results (default: {LATEST})",
    )
    made.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Write both, print where they are; 0 whatever the run's outcome was.

    :raise UsageError: when the folder has no results of a run.
    """
    from harness.report import html, markdown, results

    found = results.read(args.folder)
    for path in (html.write(found, args.folder), markdown.write(found, args.folder)):
        print(path)
    return 0
