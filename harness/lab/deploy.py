"""Making a host reached by SSH ready for workers: code, Python packages, images, a place to work in."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from harness.host.admission import PER_CORE, available_mib, carried
from harness.host.paths import SHARED_IMAGES
from harness.image import packages
from harness.image.store import MANIFEST, Image, Manifest
from harness.lab import lab, warm
from harness.lab.address import Address, client_config
from harness.lab.ssh import Ssh
from harness.model.errors import HostUnfit
from harness.model.spec import Accel

REPOSITORY = Path(__file__).resolve().parents[2]
WORKER_REQUIREMENTS = REPOSITORY / "requirements-worker.txt"
SENT = ("harness", "guest-images")
"""What of the checkout a worker needs."""

UNUSED_DAYS = 14
"""As in `harness.host.depot.Limits`."""

_SENT = ".sent"
"""Behind an image's name: beside it, this file says that a run sent it, and when one last used it."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where things lie on the host: our code, third-party packages, guest images, the run's folder.

    Beside that folder, in which workers start, lie the programs that were sent (`send_program`).
    """

    code: PurePosixPath
    site: PurePosixPath
    images: PurePosixPath
    work: PurePosixPath

    @property
    def results(self) -> PurePosixPath:
        """Where workers leave their evidence."""
        return self.work / "results"


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A host ready for workers; `config` is an OpenSSH client configuration that knows it as `alias`.

    `accel` is what pods use there, None if the host is to find out itself. `warm`: interpreters wait there
    that have imported (`harness.lab.warm`). `carries`: so many tests with VMs at once; more workers would
    only wait for each other.
    """

    alias: str
    address: Address
    config: Path
    layout: Layout
    ssh: Ssh
    accel: Accel | None
    warm: bool = False
    carries: int = PER_CORE  # a lab has one core

    @property
    def gateway(self) -> str:
        """The execnet specification of a worker there (xdist's --tx)."""
        path = f"{self.layout.site}:{self.layout.code}"
        python = f"env PYTHONPATH={path} PYTEST_PLUGINS=harness.plugin python3"
        if self.warm:
            # without site and its own imports: this python only fetches one that has them
            client = f"python3 -I -S {self.layout.code}/harness/lab/warm.py fork"
            python = f"{client} {warm.SOCKETS} {code_digest()} {python}"
        return f"ssh={self.alias}//ssh_config={self.config}//python={python}//chdir={self.layout.work}"


LAB = Layout(
    code=PurePosixPath("/opt/vsock-harness/code"),
    site=PurePosixPath("/opt/vsock-harness/site"),
    images=PurePosixPath(SHARED_IMAGES),
    work=PurePosixPath("/opt/vsock-harness/work"),
)


def sent_files() -> list[Path]:
    """The files of the checkout that workers need, relative to it."""
    found = (path for part in SENT for path in (REPOSITORY / part).rglob("*") if path.is_file())
    return sorted(path.relative_to(REPOSITORY) for path in found if path.suffix != ".pyc")


@functools.cache
def code_digest() -> str:
    """A hash of the names and contents of `sent_files`."""
    total = hashlib.sha256()
    for name in sent_files():
        data = (REPOSITORY / name).read_bytes()
        total.update(f"{name}\0{len(data)}\0".encode() + data)
    return total.hexdigest()[:16]


def send_code(ssh: Ssh, target: PurePosixPath) -> None:
    """Have this checkout's code there; nothing is sent where all of it is, from whichever checkout it came.

    :raise InfrastructureError: when the connection breaks.
    """
    mark = target / "digest"
    if ssh.run_unchecked(["cat", str(mark)]).out == code_digest():
        return
    ssh.run(["rm", "-f", str(mark)])  # half of it may come only
    ssh.push(REPOSITORY, target, sent_files())
    ssh.run(["sh", "-c", f"printf %s {code_digest()} > {mark}"])


@contextlib.contextmanager
def deployed(
    address: Address,
    layout: Layout,
    alias: str,
    scratch: Path,
    *,
    accel: Accel | None = None,
    restored: bool = False,
    carries: int = PER_CORE,
) -> Iterator[Remote]:
    """The host with this checkout's code on it, only what changed having been sent.

    Its work folder is this run's own: it is removed when the `with` is left or the connection breaks.

    :param restored: it is a lab that was saved: its clock is to be set, and warm interpreters are there.
    :param carries: see `Remote`.
    :raise InfrastructureError: when the connection breaks.
    """
    config = scratch / f"{alias}.ssh_config"
    config.write_text(client_config(address, alias, scratch / f"{alias}.known_hosts"))
    with Ssh.connect(address) as ssh:
        if restored:
            lab.set_clock(ssh)
        send_code(ssh, layout.code)
        with ssh.held_folder(layout.work):
            yield Remote(
                alias=alias,
                address=address,
                config=config,
                layout=layout,
                ssh=ssh,
                accel=accel,
                warm=restored,
                carries=carries,
            )


@contextlib.contextmanager
def prepared(address: Address, alias: str, scratch: Path, images: tuple[Image, ...]) -> Iterator[Remote]:
    """A host that is not a lab of ours, ready for workers: packages and images are sent if it lacks them.

    All lies in the user's cache folder there; what is sent once is found again by its hash, and removed when
    no run has used it for so many days (`UNUSED_DAYS`).

    :raise HostUnfit: when the host has no Python 3.11 or later.
    :raise InfrastructureError: when the connection breaks, or the packages can't be had for its Python.
    """
    with Ssh.connect(address) as ssh:
        home = (
            PurePosixPath(ssh.run(["sh", "-c", 'printf %s "${XDG_CACHE_HOME:-$HOME/.cache}"']))
            / "vsock-harness"
        )
        said = ssh.run_unchecked(["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        python = said.out.strip()
        if said.code or tuple(map(int, python.split("."))) < (3, 11):
            raise HostUnfit(
                f"{address}: python3 is {python or said.err.strip()}; 3.11 or later is needed",
                ability="python",
            )
        target = home / f"site-{packages.identity(WORKER_REQUIREMENTS)}-{python}"
        if ssh.run_unchecked(["test", "-d", str(target)]).code:
            with tempfile.TemporaryDirectory(dir=scratch) as site:
                packages.install(WORKER_REQUIREMENTS, python, Path(site))
                ssh.place(Path(site), target)
        for image in images:
            _place_image(image, home / "images", ssh)
        code = code_folder(ssh, home)
        tidy(ssh, home, [target, code])
        work = home / f"work-{secrets.token_hex(4)}"
        cores, meminfo = ssh.run(["sh", "-c", "nproc; cat /proc/meminfo"]).split("\n", 1)
        carries = carried(int(cores), available_mib(meminfo))
    layout = Layout(code=code, site=target, images=home / "images", work=work)
    with deployed(address, layout, alias, scratch, carries=carries) as remote:
        yield remote


def code_folder(ssh: Ssh, home: PurePosixPath) -> PurePosixPath:
    """Where this code goes on a host: no other's, as a run with other code may be under way there.

    If it is new, it begins as a copy of the latest that is whole: `send_code` sends what differs.

    :raise InfrastructureError: when the connection breaks.
    """
    folder = home / f"code-{code_digest()}"
    there, fresh = shlex.quote(str(folder)), shlex.quote(f"{folder}.{secrets.token_hex(4)}")
    last = f"$(ls -t {shlex.quote(str(home))}/code-*/digest 2>/dev/null | head -n 1)"
    copy = f'cp -R -p "${{last%/digest}}" {fresh} && mv -T {fresh} {there} 2>/dev/null'
    ssh.run(["sh", "-c", f'test -d {there} || {{ last={last}; test -z "$last" || {copy}; }}; rm -rf {fresh}'])
    return folder


def tidy(ssh: Ssh, home: PurePosixPath, used: Sequence[PurePosixPath]) -> None:
    """Remove what runs sent to a host and have not used for long; what is `used` now is as good as new.

    Images are those beside which `_place_image` left a mark: others are the host's own.

    What can't be removed stays.

    :raise InfrastructureError: when the connection breaks.
    """
    root, paths = shlex.quote(str(home)), shlex.join(map(str, used))
    old = f"-mtime +{UNUSED_DAYS}"
    line = f"touch -c {paths}; mkdir -p {root}/images; cd {root} && "
    names = "-name 'code-*' -o -name 'site-*' -o -name 'program-*'"
    line += f"find . -maxdepth 1 '(' {names} ')' {old} -exec rm -rf {{}} +; "
    line += f"find images -mindepth 2 -maxdepth 2 -name '*{_SENT}' {old} | while read -r mark; do "
    line += f'rm -rf "${{mark%{_SENT}}}" "$mark"; done; true'
    ssh.run(["sh", "-c", line])


def send_image(image: Image, remote: Remote) -> None:
    """An image that only some runs need, to where the host's store finds it, if it is not there yet.

    :raise InfrastructureError: when the connection breaks.
    """
    _place_image(image, remote.layout.images, remote.ssh)


def send_program(program: Path, remote: Remote) -> None:
    """A program of the user's own, to where workers find it as `program_word`, if it is not there yet.

    :raise InfrastructureError: when the connection breaks.
    """
    target = remote.layout.work.parent / _program_folder(program)
    remote.ssh.push(program.parent, target, [Path(program.name)])
    remote.ssh.run(["touch", str(target)])  # used now (`tidy`)


def program_word(program: Path) -> str:
    """What a program that was sent is called in the folder that workers start in."""
    return f"../{_program_folder(program)}/{program.name}"


def _program_folder(program: Path) -> str:
    """Its own, as a run with another program of this name may be under way there."""
    return f"program-{hashlib.sha256(program.read_bytes()).hexdigest()[:16]}"


def _place_image(image: Image, images: PurePosixPath, ssh: Ssh) -> None:
    """Unless the host has it for all its users, as a lab has: built at the same time, as built again it may
    have other files."""
    name = f"{image.name}/{image.id}"
    said = ssh.run_unchecked(["cat", f"{LAB.images}/{name}/{MANIFEST}"]).out
    try:
        built = msgspec.json.decode(said, type=Manifest).built
    except msgspec.MsgspecError:
        built = ""
    if built != image.manifest.built:
        sent = ssh.place(image.path, images / name, mark=MANIFEST)
        ssh.run(["touch", *([] if sent else ["-c"]), f"{images / name}{_SENT}"])
