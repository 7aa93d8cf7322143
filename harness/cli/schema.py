"""``vsock-harness schema``: the JSON Schema of scenario files."""

from __future__ import annotations

import argparse
import json
import sys
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

    text = schema.text()
    if not sys.stdout.encoding.lower().startswith("utf"):
        text = json.dumps(json.loads(text), indent=2) + "\n"  # JSON of ASCII alone
    print(text, end="")
    return 0
