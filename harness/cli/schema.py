"""``vsock-harness schema``: the JSON Schema of scenario files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

_EXAMPLES = """\
example:
  vsock-harness schema > scenario.schema.json

In a scenario file, this first line makes editors complete and check it:
  # yaml-language-server: $schema=scenario.schema.json
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``schema`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "schema",
        description="Prints the JSON Schema (draft 2020-12) of scenario files.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Print the schema."""
    from harness.model import schema

    print(schema.text(), end="")
    return 0
