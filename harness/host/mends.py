"""The commands that mend a host: as text to copy, and, where they are safe, as steps for `doctor --fix`.

Safe is what adds an ability and takes none away: loading a module, letting this user open a device, joining
the group kvm; of unloading, only VMware's vsock transport, and only where `probes.Vmci` says that it matters.
What installs, reloads KVM, restarts, or changes a setting that others may rely on is text only.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness.host import kernel
from harness.host.finding import Step

PROGRAMS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where root's commands are; not on every user's PATH."""

_MODULES_LOAD = ("etc/modules-load.d", "run/modules-load.d", "usr/lib/modules-load.d")
_MISC_MINORS = {"kvm": 232, "vhost-vsock": 241}
"""Of include/linux/miscdevice.h: KVM_MINOR, VHOST_VSOCK_MINOR. The major of misc devices is 10."""

_JOINED = "kvm"
"""The one group that --fix adds a user to: it stands for these devices and nothing else (udev's rules)."""


class Mend(NamedTuple):
    """`text` is what a person would type, with a comment where one is needed; `steps` is its safe part."""

    text: str = ""
    steps: tuple[Step, ...] = ()


NOTHING = Mend()
"""Where no command helps."""


def as_root(command: str) -> str:
    """The command as this user has to type it to run it as root; by su(1) where there is no sudo."""
    if os.geteuid() == 0:
        return command
    return f"sudo {command}" if has_sudo() else f"su -c {shlex.quote(command)}"


def has_sudo() -> bool:
    """Whether this machine has sudo(8), whoever may use it."""
    return shutil.which("sudo") is not None


def shown(step: Step) -> str:
    """The step as this user would type it."""
    return as_root(shlex.join(step.argv))


def load(
    module: str, root: Path, *, options: tuple[str, ...] = (), at_boot: bool = False, then: str = ""
) -> Mend:
    """Load a module, and with `at_boot` at each boot from now on.

    :param then: what is to be done after it where this is a container, and the host's kernel is meant.
    """
    argv = ("modprobe", *options, module)
    if kernel.in_container(root):
        return Mend(f"sudo {shlex.join(argv)}  # on this container's host{f'; then {then}' if then else ''}")
    text = as_root(shlex.join(argv))
    if kernel.blacklisted(module, root) or kernel.module_state(module, root) != "loadable":
        return Mend(text)  # a blacklist is somebody's decision
    return Mend(text, (Step(argv), *(_load_at_boot(module, root) if at_boot else ())))


def _load_at_boot(module: str, root: Path) -> tuple[Step, ...]:
    """See modules-load.d(5). None where systemd isn't, or where a file names the module already."""
    named = (
        line.strip()
        for folder in _MODULES_LOAD
        for path in (root / folder).glob("*.conf")
        for line in kernel.read(path).splitlines()
    )
    if module in named or not (root / _MODULES_LOAD[0]).is_dir():
        return ()
    file = f"/{_MODULES_LOAD[0]}/vsock-harness-{module}.conf"
    return (Step(("sh", "-c", f"echo {module} > {file}"), "loads it at each boot"),)


def pass_in(device: Path) -> Mend:
    """Hand a device to a container; who starts it has to."""
    return Mend(f"docker run --device {device} ...")


def make_node(device: Path, root: Path) -> Mend:
    """The driver is there, its node isn't."""
    if kernel.in_container(root):
        return pass_in(device)
    minor = _MISC_MINORS.get(device.name)
    return NOTHING if minor is None else Mend(as_root(f"mknod -m 0660 {device} c 10 {minor}"))


def let_in(device: Path, denied: int, root: Path = Path("/")) -> Mend:
    """Let this user open a device node that denies it.

    :param denied: the errno. EACCES comes of the node's permissions, EPERM of a device control group, and
        only the latter keeps root out.
    """
    if os.geteuid() == 0 or denied == errno.EPERM:
        return pass_in(device)
    status = device.stat()
    if status.st_gid != 0 and status.st_mode & 0o060 == 0o060:
        if kernel.in_container(root):
            return Mend(f"docker run --device {device} --group-add {status.st_gid} ...")
        with contextlib.suppress(KeyError):  # a number without a name
            return _join(grp.getgrgid(status.st_gid))
    argv = ("chmod", "0666", str(device))
    return Mend(as_root(shlex.join(argv)), (Step(argv, "until the next boot"), *_open_at_boot(device, root)))


def _join(group: grp.struct_group) -> Mend:
    """:raise KeyError: this user has no name."""
    user = pwd.getpwuid(os.getuid())
    if group.gr_gid in {os.getegid(), *os.getgroups()}:
        return NOTHING  # the permissions let us in, so something else doesn't
    if user.pw_name in group.gr_mem or user.pw_gid == group.gr_gid:
        return Mend(
            f"newgrp {group.gr_name}  # {user.pw_name} is in it, but this login is older; or log in again"
        )
    argv = ("usermod", "-aG", group.gr_name, user.pw_name)
    step = Step(argv, "counts from the next login on: log in again, then see vsock-harness doctor")
    text = f"{as_root(shlex.join(argv))}  # then log in again"
    return Mend(text, (step,) if group.gr_name == _JOINED else ())


def _open_at_boot(device: Path, root: Path) -> tuple[Step, ...]:
    """A rule after those of udev itself (50-udev-default.rules), see udev(7). None where udev isn't."""
    if kernel.in_container(root) or not (root / "etc/udev/rules.d").is_dir():
        return ()
    rule = rf"KERNEL==\"{device.name}\", MODE=\"0666\""
    file = f"/etc/udev/rules.d/99-vsock-harness-{device.name}.rules"
    return (Step(("sh", "-c", f"echo {rule} > {file}"), "does so at each boot"),)


class Ran(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    output: str


def run(step: Step, *, terminal: bool) -> Ran:
    """Run the step as root: as it is if we are, else by sudo, which may ask for a password at a `terminal`.

    It takes as long as it takes: Ctrl-C ends it, a deadline of ours couldn't kill what root runs.
    """
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{PROGRAMS}"}
    argv = list(step.argv)
    if os.geteuid() != 0:
        if shutil.which("sudo", path=env["PATH"]) is None:
            return Ran(127, f"sudo is not installed here; as root: {shlex.join(argv)}")
        argv = ["sudo", *([] if terminal else ["-n"]), "--", *argv]
    try:
        done = subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return Ran(127, f"{argv[0]}: {error.strerror}")
    return Ran(done.returncode, done.stdout.strip())
