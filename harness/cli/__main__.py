"""``python -m harness.cli`` is ``vsock-harness``."""

from harness.cli.main import entry

entry()
