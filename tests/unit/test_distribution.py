"""The agent on its way into a distribution's guest: what is sent where, how it is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any, cast

from harness.agent import digest
from harness.guest import inject
from harness.lab.ssh import Ssh
from harness.run import distribution


class Guest:
    """Takes files as a host reached by SSH does: what is there already isn't sent again."""

    def __init__(self) -> None:
        self.there: dict[PurePosixPath, bytes] = {}
        self.ran: list[list[str]] = []

    def push(self, folder: Path, target: PurePosixPath, files: list[Path]) -> int:
        wanted = {target / name: (folder / name).read_bytes() for name in files}
        sent = {name: data for name, data in wanted.items() if self.there.get(name) != data}
        self.there |= sent
        return len(sent)

    def run(self, argv: list[str]) -> str:
        self.ran.append(argv)
        return ""


def ssh(guest: Guest) -> Ssh:
    return cast(Ssh, cast(Any, guest))


def test_the_agents_folder_is_named_by_its_hash_and_sent_once(tmp_path: Path) -> None:
    guest = Guest()
    folder, sent = distribution.send(ssh(guest), PurePosixPath("/opt/x"))
    assert folder == PurePosixPath("/opt/x", inject.expected_digest())
    assert sent == len(list(inject.AGENT.glob("*.py")))
    assert distribution.send(ssh(guest), PurePosixPath("/opt/x")) == (folder, 0)
    for name, data in guest.there.items():
        (tmp_path / name.name).write_bytes(data)
    assert digest(str(tmp_path)) == folder.name


def test_it_is_started_as_a_service_from_that_folder() -> None:
    guest = Guest()
    distribution.start(ssh(guest), PurePosixPath("/opt/x/abc"))
    (argv,) = guest.ran
    assert argv[0] == "systemd-run"
    assert argv[-6:] == inject.command(PurePosixPath("/opt/x/abc"))
    assert "sys.path.insert(0, '/opt/x/abc')" in argv[-1]


def test_the_words_really_start_an_agent(tmp_path: Path) -> None:
    words = inject.command(PurePosixPath(inject.AGENT.parent))
    argv = [sys.executable, *words[1:], "--unix", str(tmp_path / "s")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        said = agent.stdout.readline()
        agent.kill()
    assert said.strip() == inject.READY
