"""The key pairs of this user's labs: one that opens them, one by which they are known."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from harness.image import cpio
from harness.model.errors import HostUnfit, InfrastructureError


class Keys(msgspec.Struct, frozen=True):
    """Paths of two ed25519 key pairs; the public halves have `.pub` appended."""

    user: Path
    host: Path

    @property
    def user_public(self) -> str:
        """The line for `authorized_keys`."""
        return self.user.with_suffix(".pub").read_text()

    @property
    def host_public(self) -> str:
        """Type and base64 of the host key, as in `known_hosts`."""
        return " ".join(self.host.with_suffix(".pub").read_text().split()[:2])


def ensure(folder: Path) -> Keys:
    """This user's keys in `folder`, made on first use; readable by nobody else.

    :raise HostUnfit: when ssh-keygen is not installed.
    :raise InfrastructureError: when the folder can't be written, or belongs to another user.
    """
    there = Keys(user=folder / "user", host=folder / "host")
    if all(_is_pair(path) for path in (there.user, there.host)):
        return there  # nothing is written: the cache may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return Keys(user=_pair(folder / "user"), host=_pair(folder / "host"))
    except OSError as error:
        raise InfrastructureError(
            f"the lab's keys in {folder} can't be made: {error.strerror}",
            hint="is it another user's folder, full, or read-only? XDG_CACHE_HOME names another place",
        ) from error


def _is_pair(path: Path) -> bool:
    return os.access(path, os.R_OK) and os.access(path.with_suffix(".pub"), os.R_OK)


def _pair(path: Path) -> Path:
    if _is_pair(path):
        return path
    if shutil.which("ssh-keygen") is None:
        raise HostUnfit(
            "ssh-keygen is not installed",
            ability="ssh",
            hint="sudo apt-get install --no-install-recommends openssh-client",
        )
    # made under another name first: a torn pair must never be taken for a whole one
    fresh = path.with_name(f"{path.name}-{os.getpid()}")
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vsock-harness", "-f", str(fresh)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise InfrastructureError("ssh-keygen failed", detail=done.stdout + done.stderr)
    fresh.with_suffix(".pub").rename(path.with_suffix(".pub"))
    fresh.rename(path)
    return path


def write_initrd(base: Path, pair: Keys, target: Path) -> None:
    """The image's initramfs with the keys as a second segment: the image itself knows none."""
    shutil.copyfile(base, target)
    with target.open("ab") as file:
        cpio.write(
            file,
            [
                cpio.folder("vsock-harness", 0o700),
                cpio.file("vsock-harness/authorized_keys", pair.user_public.encode(), 0o600),
                cpio.file("vsock-harness/ssh_host_ed25519_key", pair.host, 0o600),
            ],
        )
