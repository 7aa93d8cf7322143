"""A holder whose lab is a sleeping process: MODE PORT STARTER LOCK FOLDER are its arguments.

The sleeper's pid and the run folder are written to FOLDER/fake.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from harness.host.process import spawn, stop
from harness.host.runfolder import RunFolder
from harness.lab import holder
from harness.lab.address import Address
from harness.lab.lab import Lab
from harness.lab.state import State
from harness.model.errors import HostUnfit, InfrastructureError
from harness.model.spec import Accel

IMAGES = {"qemu": "q1", "lab": "l1", "pod": "p1"}


def main(mode: str, port: str, *rest: str) -> int:
    """Hold."""

    @contextlib.contextmanager
    def boot(folder: RunFolder, logs: Path) -> Iterator[holder.Booted]:
        if mode == "unfit":
            raise HostUnfit("no room", ability="memory", hint="buy some")
        logs.mkdir()
        (logs / "console.log").write_text("hello\n")
        sleeper = spawn(["sleep", "1000"], folder=folder)
        fake = Path(rest[2], "fake")
        fake.with_suffix(".new").write_text(f"{sleeper.pid} {folder.path}")
        fake.with_suffix(".new").rename(fake)
        try:
            if mode == "silent":
                raise InfrastructureError("no login", detail="the console's end")
            if mode == "crash":
                raise ZeroDivisionError("a bug")
            if mode == "slow":
                threading.Event().wait()
            if mode == "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            address = Address(host="127.0.0.1", port=int(port), user="root", key=logs, host_key="ssh-x AAAA")
            state = State.VMCI if mode == "state" else State.LOADED
            yield holder.Booted(Lab(address, sleeper.pid, 1.5, Accel.TCG), IMAGES, 2048, state=state)
        finally:
            stop(sleeper, terminate_after=5, kill_after=5)

    return holder.hold(rest, boot)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
