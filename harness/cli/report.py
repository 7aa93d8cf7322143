"""``vsock-harness report``: writes the report of a run again, or compares runs on several kernels."""

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
  vsock-harness report results/kernels/*/latest   what differs between the kernels of these (make kernels)

A run writes both files itself at its end. This makes them anew from the folder's other files, say after an
update of vsock-harness, of results from elsewhere (a CI's artifact), or of a run that was killed.
Of several folders it prints a table (Markdown) of what was not seen the same on all kernels of their hosts;
runs on one kernel share a column.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``report`` to the command's subparsers."""
    made = subparsers.add_parser(
        "report",
        description="Writes a run's report.html and summary.md into its results folder; or compares several.",
        epilog=_EXAMPLES,
    )
    made.add_argument(
        "folders",
        nargs="*",
        metavar="RESULTS_FOLDER",
        type=Path,
        default=[LATEST],
        help=f"a folder below results (default: {LATEST}), or several to compare",
    )
    made.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Write both, print where they are; of several folders, print what differs. 0 whatever the outcomes were.

    :raise UsageError: when a folder has no results of a run, or several are of one kernel.
    """
    from harness.report import across, html, markdown, reading

    if len(args.folders) > 1:
        print(across.markdown(across.across([reading.read(folder) for folder in args.folders])), end="")
        return 0
    (folder,) = args.folders
    found = reading.read(folder)
    for path in (html.write(found, folder), markdown.write(found, folder)):
        print(path)
    return 0
