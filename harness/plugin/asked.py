"""What a run's arguments ask for, known before a VM boots: how many items, and on which links."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import msgspec
import pytest

from harness.host.paths import from_here
from harness.image.store import Image, Store
from harness.model.errors import HarnessError, UsageError
from harness.model.link import Link
from harness.model.progress import Progress
from harness.model.scenario import SUFFIXES, Scenario
from harness.plugin import known, options
from harness.plugin.collect import scenario_files
from harness.run import hybrid

_NOT_LONG = "not long"


class Asked(msgspec.Struct, frozen=True):
    """`items`: how many there are, None if only pytest will know. `links`: on which some may be.

    `named`: whether `--link` names them. `programs`: whether other people's programs go into a pod. `sure`:
    `-m` and `--link` leave a scenario, whatever there is besides.
    """

    items: int | None
    links: frozenset[Link]
    named: bool = False
    programs: bool = False
    sure: bool = False


def check(config: pytest.Config) -> Asked:
    """Read every scenario: mistakes are found before a VM boots.

    :raise UsageError: all of them, a line each.
    """
    named = options.links(config)
    wanted = frozenset(Link) if named is None else named
    markers = config.option.markexpr or ""
    without_long = leaves_out_long(markers)
    wrong: list[str] = []
    count, links, programs = 0, set[Link](), False
    for path in scenario_files(config):
        try:
            scenario = known.scenario(path)
            picked = _picked(path, scenario, config)
        except UsageError as error:
            wrong.append(str(error))
            continue
        chosen = [link for link in picked if link in wanted]
        count += len(chosen)
        run = [link for link in chosen if not (without_long and link in scenario.long)]
        links.update(run)
        programs = programs or any(scenario.for_link(link).programs for link in run)
    if wrong:
        raise UsageError("\n".join(wrong))
    sure = bool(links) and markers in ("", _NOT_LONG)
    folder = config.invocation_params.dir
    if all(_is_scenarios_only(Path(folder, argument.split("::")[0])) for argument in config.args):
        return Asked(count, frozenset(links), named is not None, programs, sure)
    # of tests that data can't say nobody knows before they are collected
    rest = wanted - {Link.HYBRID_VSOCK} if named is None and without_long else wanted
    return Asked(None, frozenset(links) | rest, named is not None, programs, sure)


def leaves_out_long(markers: str) -> bool:
    """Whether an expression of markers (`-m`) leaves out what takes long, whatever else it says."""
    try:
        parsed = ast.parse(markers.strip(), mode="eval").body
    except SyntaxError:  # marker names can be more than Python's
        return False
    return _of_long(parsed) is False


def _of_long(node: ast.expr) -> bool | None:
    """What an expression is of an item with the marker `long`; None if that depends on others."""
    match node:
        case ast.Name(id="long"):
            return True
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            value = _of_long(operand)
            return None if value is None else not value
        case ast.BoolOp(op=op, values=values):
            found = {_of_long(value) for value in values}
            decided = isinstance(op, ast.Or)
            return decided if decided in found else None if None in found else not decided
    return None


def _picked(path: Path, scenario: Scenario, config: pytest.Config) -> list[Link]:
    """The links of a scenario that the arguments lead to: all, unless each names one (``FILE::LINK``).

    :raise UsageError: one that it does not have.
    """
    folder = config.invocation_params.dir
    named = set[str]()
    for argument in config.args:
        name, *rest = argument.split("::")
        given = Path(folder, name).resolve()
        if given == path.resolve() and rest:
            if len(rest) > 1 and rest[0] in list(scenario.links):
                said = f"{from_here(path)}::{rest[0]}"
                raise UsageError(f"{said}::{'::'.join(rest[1:])}: nothing is below a link; {said} is one")
            named.add(rest[0])
        elif path.resolve().is_relative_to(given):
            return list(scenario.links)
    for word in named.difference(scenario.links):
        near = difflib.get_close_matches(word, scenario.links, n=1)
        guess = f"; did you mean {str(near[0])!r}?" if near else ""
        raise UsageError(
            f"{from_here(path)}::{word}: no such link; it has {', '.join(scenario.links)}{guess}"
        )
    return [link for link in scenario.links if link in named or not named]


def for_none(config: pytest.Config) -> Asked:
    """What a run without a host of ours asks for: nothing.

    :raise UsageError: there are scenarios in it.
    """
    if scenario_files(config):
        raise UsageError("--host none: scenarios need a host", hint="auto, local, lab or ssh://user@host")
    return Asked(0, frozenset())


def _is_scenarios_only(path: Path) -> bool:
    return path.suffix in SUFFIXES or (path.is_dir() and not any(path.rglob("test_*.py")))


def usual(asked: Asked) -> list[str]:
    """The images that this run's pods are made of, where they run on this machine itself."""
    names = ["qemu", "pod"]
    names += ["proxy"] if Link.SERIAL_PROXY in asked.links else []
    return names + (["programs"] if asked.programs else [])


def images(store: Store, asked: Asked, progress: Progress, notes: list[str]) -> list[Image]:
    """The images that only some links want and this run's do.

    One that can't be had is a note, and the link's items are skips, unless `--link` asks for the link.

    :raise HostUnfit, InfrastructureError: it can't be had, and was asked for.
    """
    if Link.HYBRID_VSOCK not in asked.links:
        return []
    try:
        return [store.get(hybrid.IMAGE, progress)]
    except HarnessError as error:
        if asked.named:
            raise
        notes.append(f"image {hybrid.IMAGE}: {error.summary}; {Link.HYBRID_VSOCK} is skipped")
        return []
