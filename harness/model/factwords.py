"""What facts say beside errnos' names; docs/scenarios.md defines each."""

from __future__ import annotations

NOTHING, EOF, CALLED = "nothing", "eof", "called"
GONE, SERVED, SILENT = "gone", "served", "silent"
OK, BLOCKED = "ok", "blocked"
OPENED, NO_DEVICE = "opened", "no-device"
