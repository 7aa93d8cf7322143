"""What goes to hosts that are not this one: what the arguments name, and pytest's options for the workers."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pytest

from harness.image.store import Image
from harness.lab import deploy
from harness.model.errors import UsageError
from harness.model.proxy import command
from harness.model.scenario import SUFFIXES
from harness.plugin import hosts, options, rerunuse
from harness.plugin.reports import HEADER
from harness.plugin.together import all_at_once


def distribute(config: pytest.Config, fleet: hosts.Fleet, images: Sequence[Image]) -> None:
    """Send what the arguments name, further `images` and the user's own proxy to every host; have xdist start
    workers there.
    """
    proxy = options.own_proxy(config)
    sent = f"sent-{secrets.token_hex(4)}"
    given = list(config.args)

    def prepare(remote: deploy.Remote) -> None:
        for argument in given:
            _send(config, argument, sent, remote)
        for image in images:
            deploy.send_image(image, remote)
        if proxy:
            deploy.send_program(proxy, remote)

    fleet.prepare = prepare
    all_at_once(fleet.remotes, lambda alias: prepare(fleet.remotes[alias]))
    there = [_name_there(config, argument, sent)[0] for argument in given]
    # xdist gives its workers the command line as it was typed, with paths that mean nothing there
    arguments = tuple(there + worker_options(config.option, proxy))
    config.invocation_params = dataclasses.replace(config.invocation_params, args=arguments)
    option = config.option
    carried = {alias: remote.carries for alias, remote in fleet.remotes.items()}
    shares = hosts.shares(asked(config), list(carried.values()))
    if sum(shares) < (asked(config) or 0):
        config.stash[HEADER].append(fewer(sum(shares), asked(config), carried))
    pairs = zip(shares, fleet.remotes.values(), strict=True)
    option.tx = [f"{share}*{remote.gateway}" for share, remote in pairs]
    option.dist = "load" if option.dist == "no" else option.dist
    option.maxschedchunk = option.maxschedchunk or 1
    option.numprocesses = None
    rerunuse.use(config, fleet, len(fleet.remotes))


_NEED_CACHE = {"lf": "--lf", "failedfirst": "--ff", "newfirst": "--nf", "stepwise": "--sw"}


def worker_options(option: argparse.Namespace, proxy: Path | None = None) -> list[str]:
    """What of the command line workers need; each in one word, so that xdist takes none for a path.

    :param proxy: the proxy's program if it was sent there.
    :raise UsageError: for what needs pytest's cache, which workers elsewhere have not; they would run all.
    """
    for name, word in _NEED_CACHE.items():
        if getattr(option, name, False):
            raise UsageError(f"{word} works on --host local only", hint="name scenarios or items, or use -k")
    words = [f"--tb={option.tbstyle}", f"--capture={option.capture}"]
    words += [f"-k{option.keyword}"] if option.keyword else []
    words += [f"-m{option.markexpr}"] if option.markexpr else []
    words += [f"--deselect={prefix}" for prefix in option.deselect or []]
    words += [f"--link={link}" for link in option.vsock_links or []]
    words += [f"--proxy={_command_there(option.vsock_proxy, proxy)}"] if option.vsock_proxy else []
    words += [f"--guest={option.vsock_guest}"] if option.vsock_guest else []
    words += [f"--boot={option.vsock_boot}"] if option.vsock_boot else []
    words += ["--strict-host"] if option.vsock_strict else []
    words += ["--runxfail"] if option.runxfail else []
    return words + (["-" + "v" * option.verbose] if option.verbose > 0 else [])


def _command_there(text: str, program: Path | None) -> str:
    """A proxy's command line for workers elsewhere; its `program` lies there where it was sent to."""
    return shlex.join([deploy.program_word(program), *command(text)[1:]]) if program else text


def _name_there(config: pytest.Config, argument: str, sent: str) -> tuple[str, Path, Path]:
    """The argument as it reads over there; the path it names here, and there below `sent`.

    The names there are as they are here, below a folder that nothing here is called, so that node ids agree.
    """
    name, *rest = argument.split("::")
    path = Path(config.invocation_params.dir, name).resolve()
    inside = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else Path(path.name)
    return "::".join([f"{sent}/{inside}", *rest]), path, inside


def _send(config: pytest.Config, argument: str, sent: str, remote: deploy.Remote) -> None:
    """Push what goes with the file or folder that `argument` names."""
    _, path, inside = _name_there(config, argument, sent)
    base, files = with_it(path)
    target = inside if path.is_dir() else inside.parent
    root = remote.layout.work / sent
    remote.ssh.push(base, root / PurePosixPath(target), files, only=False)
    remote.ssh.run(["touch", str(root / "pytest.ini")])


def with_it(path: Path) -> tuple[Path, list[Path]]:
    """What goes to a host when `path` is named: a folder, and files by their paths in it.

    Of a folder that is all in it; a scenario file goes alone. With a module ``test_NAME.py`` goes what it may
    read beside it: the folder NAME and the scenario files. They are not run for that: they are not named.
    """
    if path.is_dir():
        return path, _files(path)
    base, files = path.parent, [Path(path.name)]
    if path.suffix == ".py":
        files += [Path(other.name) for other in sorted(base.iterdir()) if other.suffix in SUFFIXES]
        own = base / path.stem.removeprefix("test_")
        files += [own.relative_to(base) / file for file in _files(own)]
    return base, files


def _files(folder: Path) -> list[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        p for p in found if p.suffix != ".pyc" and not any(part.startswith(".") for part in p.parts)
    )


def fewer(given: int, wanted: int | None, carried: Mapping[str, int]) -> str:
    """The line that says why a run has fewer workers than were asked for."""
    each = ", ".join(f"{alias} {count}" for alias, count in carried.items())
    return f"workers: {given} of the {wanted} asked for; more would only wait (VMs at once: {each})"


def asked(config: pytest.Config) -> int | None:
    """How many workers `-n` asks for; None if it does not, or says auto."""
    number = config.option.numprocesses
    return number if isinstance(number, int) else None
