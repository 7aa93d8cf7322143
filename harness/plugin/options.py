"""The plugin's options, read in one place."""

from __future__ import annotations

import difflib
import hashlib
import os
from pathlib import Path

import pytest

from harness.image import recipe
from harness.lab import address
from harness.lab.lab import LEAST_MIB
from harness.lab.state import OWN_KERNEL, kernels
from harness.model import asked
from harness.model.errors import UsageError
from harness.model.link import Link
from harness.model.plan import Boot
from harness.model.proxy import command
from harness.run.place import USUAL


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness's options, in a group of their own."""
    group = parser.getgroup("vsock-harness", "VMs, links and hosts (vsock-harness)")
    group.addoption(
        "--host",
        action="append",
        dest="vsock_hosts",
        metavar="HOST",
        help="where VMs run: auto (default: the best that works), local, lab, or ssh://user@host[:port]; "
        "may be given more than once with ssh://; none: the tests given boot labs of their own",
    )
    group.addoption(
        "--ssh-config",
        dest="vsock_ssh_config",
        metavar="FILE",
        default=None,
        help="OpenSSH client configuration that knows the ssh:// hosts (default: ~/.ssh/config)",
    )
    group.addoption(
        "--link",
        action="append",
        dest="vsock_links",
        metavar="LINK",
        help=f"only these links, of: {', '.join(Link)}; may be given more than once, or with commas",
    )
    group.addoption(
        "--strict-host",
        action="store_true",
        dest="vsock_strict",
        help="what a host can't do is an error, not a skip",
    )
    group.addoption(
        "--results",
        dest="vsock_results",
        metavar="DIR",
        default="results",
        help="where the run's folder of evidence is made (default: results)",
    )
    _add_lab(group)
    _add_pod(group)
    group.addoption(
        "--proxy",
        dest="vsock_proxy",
        metavar="COMMAND",
        default=None,
        help="the multiplexing proxy of the link serial-proxy; {listen} and {mux} stand for its sockets, "
        "{id} for the pod (default: the image proxy). A program by the path of a file here is sent to where "
        "VMs run; one without a slash is there",
    )


def _add_pod(group: pytest.OptionGroup) -> None:
    """What pods are like."""
    group.addoption(
        "--guest",
        dest="vsock_guest",
        metavar="NAME",
        default=USUAL,
        help=f"the image that pods' guests are, of: {', '.join(recipe.guests())} (default: {USUAL})",
    )
    group.addoption(
        "--boot",
        choices=list(map(str, Boot)),
        dest="vsock_boot",
        default=None,
        help="boot every scenario's VM so, whatever its file says: cold, from nothing, or clone",
    )


def _add_lab(group: pytest.OptionGroup) -> None:
    """What labs are like."""
    group.addoption(
        "--fresh-lab",
        action="store_true",
        dest="vsock_fresh_lab",
        help="boot labs anew instead of restoring the saved one, or using the one that is kept",
    )
    group.addoption(
        "--lab-memory",
        dest="vsock_lab_memory",
        metavar="MIB",
        type=int,
        default=None,
        help="memory of one lab in MiB (default: 4096)",
    )
    group.addoption(
        "--lab-kernel",
        dest="vsock_lab_kernel",
        metavar="RELEASE",
        default=None,
        help=f"of which Debian release the kernel of labs is, of: {', '.join(kernels())} "
        f"(default: {OWN_KERNEL}); VMs run in labs then",
    )
    group.addoption(
        "--with-image",
        action="append",
        dest="vsock_images",
        metavar="NAME",
        help="have this image, too, where VMs run: one that is built on demand only (debian)",
    )


def hosts(config: pytest.Config) -> list[str]:
    """The hosts asked for; `["auto"]` if none was.

    :raise UsageError: for an unknown word, or a mixture that makes no sense.
    """
    wanted = address.asked(config.option.vsock_hosts or [])
    if config.option.vsock_lab_kernel is None:
        return wanted
    if wanted[0] not in ("auto", "lab"):
        raise UsageError(f"--host {wanted[0]}: --lab-kernel is about labs", hint="--host lab")
    return ["lab"]


def lab_kernel(config: pytest.Config) -> str:
    """The Debian release that the labs' kernel shall be of.

    :raise UsageError: no lab can have its kernel; names the nearest.
    """
    name: str = config.option.vsock_lab_kernel or OWN_KERNEL
    if name not in kernels():
        near = difflib.get_close_matches(name, kernels(), n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"--lab-kernel {name}: unknown{guess}", hint=f"one of: {', '.join(kernels())}")
    return name


def ssh_config(config: pytest.Config) -> Path | None:
    """The OpenSSH client configuration asked for, None for the user's own.

    :raise UsageError: it is not there.
    """
    word: str | None = config.option.vsock_ssh_config
    if word is None:
        return None
    path = Path(config.invocation_params.dir, word).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"--ssh-config {word}: no such file")
    return path


def lab_memory(config: pytest.Config) -> int | None:
    """The memory of a lab asked for, in MiB; None for what is usual.

    :raise UsageError: no lab comes up with so little.
    """
    mib: int | None = config.option.vsock_lab_memory
    if mib is not None and mib < LEAST_MIB:
        raise UsageError(f"--lab-memory {mib}: a lab needs at least {LEAST_MIB} MiB")
    return mib


def proxy(config: pytest.Config) -> tuple[str, ...]:
    """The command line of the external proxy asked for, empty if none was. A path of a file here is absolute.

    :raise UsageError: see `harness.model.proxy.command`; its program is a relative path where nothing is, or
        something here that can't be run.
    """
    text: str | None = config.option.vsock_proxy
    if text is None:
        return ()
    words = command(text)
    return words if "/" not in words[0] else (_program(config, words[0]), *words[1:])


def _program(config: pytest.Config, word: str) -> str:
    """The program that a path names: one here, or, if it is absolute, one that may be where VMs run."""
    path = Path(config.invocation_params.dir, word).absolute()
    if not path.exists():
        if word.startswith("/"):
            return word
        raise UsageError(f"--proxy {word}: no such file")
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--proxy {word}: no program that can be run", hint=f"chmod +x {word}")
    return str(path)


def own_proxy(config: pytest.Config) -> Path | None:
    """The proxy's program if it is a file here.

    :raise UsageError: as `proxy`.
    """
    words = proxy(config)
    path = Path(words[0]) if words else None
    return path if path and path.is_absolute() and path.is_file() else None


def proxy_line(config: pytest.Config) -> list[str]:
    """What a run's header says of the external proxy, if one was asked for; of one here, which it is.

    :raise UsageError: as `proxy`.
    """
    path = own_proxy(config)
    which = f" (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}…)" if path else ""
    text: str | None = config.option.vsock_proxy
    return [] if text is None else [f"proxy: {text}{which}"]


def images(config: pytest.Config) -> tuple[str, ...]:
    """The images asked for beside the usual ones, of the guest as well.

    :raise UsageError: for one that no recipe makes; names the nearest.
    """
    wanted: list[str] = [*(config.option.vsock_images or []), guest(config)]
    for name in wanted:
        recipe.load(name)
    return tuple(name for name in dict.fromkeys(wanted) if name not in recipe.usual())


def guest(config: pytest.Config) -> str:
    """The image that pods' guests are.

    :raise UsageError: it is no guest's; names the nearest.
    """
    name: str = config.option.vsock_guest
    if name not in recipe.guests():
        near = difflib.get_close_matches(name, recipe.guests(), n=1)
        also = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"--guest {name}: unknown{also}", hint=f"one of: {', '.join(recipe.guests())}")
    return name


def boot(config: pytest.Config) -> Boot | None:
    """How every scenario's VM is to come to be, None for as its file says."""
    word: str | None = config.option.vsock_boot
    return Boot(word) if word else None


def links(config: pytest.Config) -> frozenset[Link] | None:
    """The links asked for, None for all.

    :raise UsageError: for an unknown link; names the nearest.
    """
    return asked.links(config.option.vsock_links or [])
