"""Real processes: whatever ends the owner, nothing is left; and the check of that can fail."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import keeper
from harness.host.process import spawn
from harness.host.runfolder import RunFolder
from harness.model.deadline import Deadline
from harness.model.errors import InfrastructureError
from tests.unit.hangs import HANGS

# Owns a child, its grandchild in a session of its own, a child that is only owned (no mark), and a folder.
OWNER = """
import os, subprocess, sys
from pathlib import Path
from harness.host.process import spawn
from harness.host.runfolder import RunFolder

base = Path(sys.argv[1])
with RunFolder.create(base) as folder:
    (folder.path / "deep" / "er").mkdir(parents=True)
    scratch = base.parent / "scratch"
    scratch.mkdir()
    (scratch / "file").touch()
    folder.own_folder(scratch)
    child = spawn(["sh", "-c", "setsid sleep 1000 & echo $!; wait"], folder=folder, stdout=subprocess.PIPE)
    grandchild = int(child.stdout.readline())
    bare = subprocess.Popen(["/bin/sleep", "1000"], env={}, start_new_session=True)
    folder.own(bare.pid)
    print(folder.path, folder._keeper.pid, child.pid, grandchild, bare.pid, flush=True)
    sys.stdin.readline()
    if sys.argv[2:] == ["raise"]:
        raise RuntimeError("broken")
"""


class Owner:
    """A process with a run, and pidfds of all that belongs to it."""

    def __init__(self, base: Path, *args: str) -> None:
        base.mkdir(exist_ok=True)
        self.scratch = base.parent / "scratch"
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(base), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        path, *pids = self.process.stdout.readline().split()
        self.folder = Path(os.fsdecode(path))
        self.keeper, self.child, self.grandchild, self.bare = (int(pid) for pid in pids)
        self.pidfds = {
            pid: os.pidfd_open(pid) for pid in (self.child, self.grandchild, self.bare, self.keeper)
        }

    def ends(self) -> str:
        """Wait for the owner's and the keeper's end (both hold stderr); what they wrote there."""
        return self.process.communicate(timeout=HANGS)[1].decode()

    def left(self, wait: float = 5) -> list[int]:
        """Which of the processes have not ended within so many seconds."""
        running, deadline = dict(self.pidfds), Deadline(wait)
        while running:
            ended = select.select(list(running.values()), [], [], deadline.remaining())[0]
            if not ended:
                break
            running = {pid: fd for pid, fd in running.items() if fd not in ended}
        return list(running)


@contextlib.contextmanager
def owner_of_a_run(base: Path, *args: str) -> Iterator[Owner]:
    owner = Owner(base, *args)
    try:
        yield owner
    finally:
        if owner.process.poll() is None:
            owner.process.kill()
        for pid in owner.left(0):
            signal.pidfd_send_signal(owner.pidfds[pid], signal.SIGKILL)
        owner.process.communicate()
        for fd in owner.pidfds.values():
            os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    with owner_of_a_run(tmp_path / "runs") as owner:
        os.killpg(owner.process.pid, number)  # as a terminal does: the whole group
        owner.ends()
        assert owner.left() == []
        assert not owner.folder.exists()
        assert not owner.scratch.exists()


@pytest.mark.parametrize("how", ["return", "raise"])
def test_nothing_is_left_when_the_owner_leaves(tmp_path: Path, how: str) -> None:
    with owner_of_a_run(tmp_path / "runs", how) as owner:
        said = owner.ends()
        assert owner.left() == []
        assert not owner.folder.exists()
        assert not owner.scratch.exists()
        assert ("RuntimeError: broken" in said) == (how == "raise")


def test_without_a_keeper_something_is_left_and_the_next_run_sweeps_it(tmp_path: Path) -> None:
    with owner_of_a_run(tmp_path / "runs") as owner:
        os.kill(owner.keeper, signal.SIGKILL)
        os.kill(owner.process.pid, signal.SIGKILL)
        owner.process.wait()
        assert set(owner.left(0.5)) == {owner.grandchild, owner.bare}  # the child had PDEATHSIG
        assert owner.folder.exists()
        with RunFolder.create(tmp_path / "runs") as folder:
            assert owner.left(0.2) == [owner.bare]  # no mark, and nobody is left who knew it
            assert sorted((tmp_path / "runs").iterdir()) == [folder.path]
            assert not owner.scratch.exists()


def test_a_sweep_spares_the_living(tmp_path: Path) -> None:
    with owner_of_a_run(tmp_path / "runs") as owner:
        assert RunFolder.sweep(tmp_path / "runs") == []
        assert owner.folder.exists()
        assert len(owner.left(0.2)) == 4


def test_the_keeper_outlives_signals_to_it(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path) as folder:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(folder._keeper.pid, number)
        child = spawn(["sleep", "1000"], folder=folder)
    assert child.wait(timeout=HANGS) == -signal.SIGKILL
    assert not folder.path.exists()


def test_a_number_that_has_come_to_mean_another_process_is_safe(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    stale = os.pidfd_open(ended.pid)
    ended.wait()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        with RunFolder.create(tmp_path) as folder:
            socket.send_fds(folder._channel, [str(bystander.pid).encode()], [stale])
        assert bystander.poll() is None
        bystander.kill()
    os.close(stale)


def test_owning_what_has_gone_is_nothing(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with RunFolder.create(tmp_path) as folder:
        folder.own(ended.pid)


def test_a_killed_keeper_is_an_error_to_own_and_the_folder_still_goes(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    folder = run.__enter__()
    child = spawn(["sleep", "1000"], folder=folder)
    folder._keeper.kill()
    folder._keeper.wait()
    with pytest.raises(InfrastructureError, match="keeper"):
        folder.own(child.pid)
    with pytest.raises(InfrastructureError, match="left something behind") as caught:
        run.__exit__(None, None, None)
    assert "killed by signal 9" in caught.value.detail
    assert child.wait(timeout=HANGS) == -signal.SIGKILL
    assert not folder.path.exists()


def test_a_disowned_folder_stays(tmp_path: Path) -> None:
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    kept.mkdir()
    gone.mkdir()
    (tmp_path / "runs").mkdir()
    with RunFolder.create(tmp_path / "runs") as folder:
        folder.own_folder(kept)
        folder.own_folder(gone)
        folder.own_folder(tmp_path / "never-made")
        folder.disown_folder(kept)
    assert kept.exists()
    assert not gone.exists()


def test_what_cannot_be_removed_is_told_and_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "runs").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with pytest.raises(InfrastructureError, match="left something behind"):
        with RunFolder.create(tmp_path / "runs") as folder:
            folder.own_folder(link)  # a link is never followed, and so not removed
    assert f"{link} not removed" in capfd.readouterr().err
    assert (tmp_path / "target").exists()
    assert RunFolder.sweep(tmp_path / "runs") == []
    assert f"{link} not removed" in caplog.text
    link.unlink()
    assert RunFolder.sweep(tmp_path / "runs") == [folder.path]


def test_a_forked_child_that_unwinds_ends_nothing(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from harness.host.runfolder import RunFolder
with RunFolder.create(Path(sys.argv[1])) as folder:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    print(folder.path.exists())
print(folder.path.exists())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGS,
    )
    assert done.stdout.split() == ["True", "False"]


def test_read_only_folders_are_removed(tmp_path: Path) -> None:
    deep = tmp_path / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    for path in (deep, deep.parent, tmp_path / "tree"):
        path.chmod(0o555)
    assert keeper.remove(tmp_path / "tree") == []
    assert not (tmp_path / "tree").exists()


def test_a_tree_with_a_mount_in_it_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    monkeypatch.setattr(keeper, "_mounts_below", lambda path: [f"{path}/proc"])
    assert keeper.remove(tree) == [
        f"{tree} not removed: {tree}/proc is mounted there (umount it, then remove the folder)"
    ]
    assert tree.exists()


def test_mounts_are_seen(tmp_path: Path) -> None:
    assert "/proc" in keeper._mounts_below(Path("/"))
    assert "/proc" in keeper._mounts_below(Path("/proc"))
    assert keeper._mounts_below(tmp_path) == []


def test_a_process_caught_in_the_midst_of_exec_is_found_by_its_mark(tmp_path: Path) -> None:
    mark = {keeper.MARK: str(tmp_path / "run"), "PATH": os.environ["PATH"]}
    for _ in range(60):  # without the second look 1 to 20 of them were missed
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", "sleep", "1000"], env=mark)
        try:
            assert keeper.clean(tmp_path / "run") == []
            assert process.wait(timeout=HANGS) == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
