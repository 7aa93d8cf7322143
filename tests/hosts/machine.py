"""A lab in a state, and `doctor` in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from harness.host.finding import Finding
from harness.host.paths import cache_root
from harness.host.runfolder import RunFolder
from harness.host.speed import slowness
from harness.image.store import Store
from harness.lab import deploy, keys, lab
from harness.lab.lab import LabImages
from harness.lab.ssh import Done, Ssh
from harness.lab.state import kernel_image
from harness.model.deadline import Deadline
from tests.hosts.cases import As, Case

MEMORY_MIB = 1536
"""No pod runs in these labs."""

_SECONDS = 240.0
"""For `doctor` in an emulated lab, which takes one some tens of seconds at most."""

_DENIED = PurePosixPath("/opt/vsock-harness/denied")
_USER = ["setpriv", "--reuid", "user", "--regid", "user", "--init-groups", "env", "HOME=/tmp"]
_AS: dict[As, list[str]] = {
    "root": [],
    "user": _USER,
    "seccomp": ["python3", f"{_DENIED}/denied.py"],
    "container": ["unshare", "--pid", "--fork", "--mount-proc"],
}
_ENTRY = "from harness.cli.main import entry; entry()"


class Machine:
    """What a user would sit at."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh

    @property
    def kernel(self) -> str:
        """As ``uname -r`` has it."""
        return self._ssh.run(["uname", "-r"]).strip()

    def doctor(self, who: As, *options: str) -> Done:
        """`vsock-harness doctor` of this checkout, run by the Python there."""
        path = f"PYTHONPATH={deploy.LAB.site}:{deploy.LAB.code}"
        argv = [*_AS[who], "env", path, "python3", "-c", _ENTRY, "doctor", *options]
        return self._ssh.run_unchecked(argv, deadline=Deadline(_SECONDS * slowness()))

    def findings(self, who: As) -> dict[str, Finding]:
        """What `doctor` finds, by ability."""
        done = self.doctor(who, "--json")
        assert done.code in (0, 1), done.err
        rows = msgspec.convert(json.loads(done.out)["findings"], list[Finding])
        return {row.ability: row for row in rows}

    def run(self, command: str) -> Done:
        """Run a command as root in a shell, as it was printed; sudo and su are what root needs of them.

        A lab has no sudo, and none of the files of PAM that su asks.
        """
        argv = ["sh", "-c", f'sudo() {{ "$@"; }}\nsu() {{ sh "$@"; }}\n{command}']
        return self._ssh.run_unchecked(argv, deadline=Deadline(_SECONDS * slowness()))


@contextlib.contextmanager
def booted(case: Case, logs: Path) -> Iterator[Machine]:
    """A lab as the case wants it, with this checkout's code; its console goes to `logs`."""
    store, root = Store(cache_root()), cache_root()
    name = kernel_image(case.kernel)
    wish = lab.Wish(
        images=LabImages(
            qemu=store.get("qemu"),
            lab=store.get("lab"),
            guests=(),
            kernel=store.get(name) if name else None,
        ),
        pair=keys.ensure(root / "keys"),
        memory_mib=MEMORY_MIB,
        state=case.state,
    )
    with RunFolder.create() as folder, lab.up(wish, folder, log_folder=logs) as running:
        with Ssh.connect(running.address) as ssh:
            ssh.push(deploy.REPOSITORY, deploy.LAB.code, deploy.sent_files())
            ssh.push(Path(__file__).parent, _DENIED, [Path("denied.py")])
            yield Machine(ssh)
