"""Makes a fresh checkout ready: what Debian packages lack, and .venv with the pinned Python packages.

    python3 .ci/bootstrap.py             the virtual environment: unit tests, lint
    python3 .ci/bootstrap.py --images    and the programs that building images needs

A second run finds all in place and does nothing. Standard library only, in words that Python 3.7 can read, so
that an old one gets a sentence and not a SyntaxError. Exit codes: 0 ready, 1 a step failed, 2 this machine
lacks something that only its owner can install; the command to do so is printed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

OLDEST = (3, 11)
VERSION = ".".join(map(str, sys.version_info[:2]))
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "complete"
"""Written last: what .venv was made from. Without it, or with another text in it, .venv is made again."""

LOCK_FILE = "requirements-dev.txt"
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "zstd": "zstd",
    "ssh": "openssh-client",
    "setpriv": "util-linux",
}
"""What building images and reaching a lab needs, and the Debian packages that have it."""

UNPRIVILEGED = {"newuidmap": "uidmap"}
"""What mmdebstrap needs besides where it does not run as root."""

KEYRING = ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring")
"""By which packages of Debian are verified; Ubuntu doesn't install it by itself."""

ABROAD = {"gpg": "gpg"}
"""By which mmdebstrap, where apt does not trust Debian already, finds out that it needs that keyring."""

_TAIL = 25
"""Lines of a failed step's output that are shown."""


class Unfit(Exception):
    """The machine lacks what can't be installed from here."""


class StepFailed(Exception):
    """A command failed; its output has been shown."""


def missing_packages(images: bool, search: str | None = None) -> list[str]:
    """The Debian packages that are missing, judged by the programs and files they bring; sorted.

    :raise Unfit: when Python itself is incomplete and is not Debian's.
    """
    wanted = []
    if images:
        programs = {
            **PROGRAMS,
            **({} if os.geteuid() == 0 else UNPRIVILEGED),
            **({} if _debian() else ABROAD),
        }
        wanted += [package for name, package in programs.items() if shutil.which(name, path=search) is None]
        wanted += [] if Path(KEYRING[0]).exists() else [KEYRING[1]]
    if not STAMP.exists() and importlib.util.find_spec("ensurepip") is None:
        if sys.base_prefix != "/usr":
            raise Unfit(
                f"the Python in {sys.base_prefix} lacks ensurepip; try: make setup PYTHON=/usr/bin/python3"
            )
        wanted.append(f"python{VERSION}-venv")
    return sorted(wanted)


def _debian() -> bool:
    try:
        return platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False


def install_packages(packages: list[str]) -> None:
    """Install Debian packages, as root or by a sudo that asks for no password.

    :raise Unfit: where neither is possible; names the one command to run.
    :raise StepFailed: when apt-get fails.
    """
    if shutil.which("apt-get") is None:
        raise Unfit(
            "this machine has no apt-get. Install what these Debian packages have, then run this again: "
            + " ".join(packages)
        )
    sudo = _as_root(packages)
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    with contextlib.suppress(StepFailed):  # one broken source of many must not keep the others from us
        step("Debian packages: reading the lists", [*apt, "update"])
    step(
        "Debian packages: installing " + " ".join(packages),
        [*apt, "install", "-y", "--no-install-recommends", *packages],
    )


def _as_root(packages: list[str]) -> list[str]:
    """The words before a command that make it run as root."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return [sudo, "-n"]
    before = "sudo " if sudo else ""
    install = (
        f"{before}apt-get update && {before}apt-get install -y --no-install-recommends {' '.join(packages)}"
    )
    raise Unfit(
        f"Debian packages are missing. Run this{'' if sudo else ' as root'}, then try again:\n  {install}"
    )


def identity(root: Path) -> str:
    """What .venv depends on, as one line: a checkout that moved or another Python needs another one."""
    total = hashlib.sha256()
    for name in (LOCK_FILE, "pyproject.toml", ".ci/bootstrap.py"):
        total.update((root / name).read_bytes())
    return f"{total.hexdigest()[:24]} python{VERSION} {sys.base_prefix} {root}\n"


def complete() -> bool:
    """Whether .venv was finished, and from what is there now."""
    try:
        return STAMP.read_text() == identity(ROOT) and os.access(VENV / "bin" / "python", os.X_OK)
    except FileNotFoundError:
        return False


def make_venv() -> None:
    """Make .venv anew. Until it is finished it has no stamp, however it is interrupted.

    :raise Unfit: it is a link: what would be removed to make it anew is somebody else's.
    :raise StepFailed: when a step fails.
    """
    if VENV.is_symlink():
        raise Unfit(f".venv is a link, to {VENV.readlink()}, which is not of this checkout: rm .venv")
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    base = getattr(sys, "_base_executable", None) or sys.executable
    step(f"virtual environment: .venv of {base}", [base, "-m", "venv", "--clear", str(VENV)])
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    count = sum(1 for line in (ROOT / LOCK_FILE).read_text().splitlines() if "==" in line)
    step(
        f"Python packages: {count}, pinned in {LOCK_FILE}",
        [*pip, "--require-hashes", "--only-binary=:all:", "-r", str(ROOT / LOCK_FILE)],
    )
    # setuptools is one of the pinned: nothing is fetched to build this
    step(
        "vsock-harness into .venv", [*pip, "--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT)]
    )
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(identity(ROOT))
    fresh.replace(STAMP)


def step(what: str, argv: list[str]) -> None:
    """Run a command, saying what it is for and how long it took; on a terminal also its newest line.

    :raise StepFailed: with the end of its output on stderr.
    """
    begun = time.monotonic()
    live = sys.stderr.isatty()
    if not live:
        _say(f"{what} ...")
    hidden = ("PYTHONPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    tail = collections.deque([""], maxlen=_TAIL)  # type: collections.deque[str]
    # close_fds=False: the command holds the lock of `alone` too, should it outlive us
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=str(ROOT),
        close_fds=False,
    ) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout.fileno()):
            tail.extend([line] if line else [])
            if live:
                _say(f"\r\x1b[K{what}: {time.monotonic() - begun:.0f} s  {tail[-1]}"[: _columns()], end="")
    start = "\r\x1b[K" if live else ""
    outcome = "failed" if process.returncode else "done"
    _say(f"{start}{what}: {outcome} in {time.monotonic() - begun:.1f} s")
    if process.returncode:
        _say("\n".join(f"  {line}" for line in tail if line))
        raise StepFailed(what)


def _lines(source: int) -> Iterator[str]:
    """What comes from the descriptor, by line; an empty line for each half second that brings nothing."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            if not selector.select(0.5):
                yield ""
                continue
            read = os.read(source, 65536)
            *whole, rest = (rest + (read or b"\n")).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace").rstrip()
            if not read:
                return


def _columns() -> int:
    return shutil.get_terminal_size().columns + len("\r\x1b[K") - 1


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Waits while another run of this works on the checkout, or a command that a killed one left behind."""
    with Path(__file__).open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another setup of this checkout")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(argv: list[str]) -> int:
    """Do what is missing; the exit code."""
    if sys.version_info < OLDEST:
        _say(
            f"{sys.executable} is Python {VERSION}; {OLDEST[0]}.{OLDEST[1]} or later is needed. "
            "If there is one: make setup PYTHON=/path/to/it"
        )
        return 2
    parser = argparse.ArgumentParser(description="Make this checkout ready.")
    parser.add_argument("--images", action="store_true", help="also install what building images needs")
    images = parser.parse_args(argv).images
    try:
        if missing_packages(images) or not complete():
            with alone():
                make_ready(images)
    except Unfit as error:
        _say(str(error))
        return 2
    except StepFailed as error:
        _say(f"setup stopped at: {error}")
        return 1
    except KeyboardInterrupt:
        _say("\nsetup interrupted; the next one begins anew")
        return 130
    return 0


def make_ready(images: bool) -> None:
    """Install and make what is missing; needs `alone`.

    :raise Unfit: when that can't be done from here.
    :raise StepFailed: when a step fails.
    """
    packages = missing_packages(images)
    if packages:
        install_packages(packages)
    left = missing_packages(images)
    if left:
        raise Unfit(f"what these packages bring was installed, and is not found (PATH?): {' '.join(left)}")
    if not complete():
        make_venv()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
