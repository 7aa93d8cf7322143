"""A scenario file, loaded: `load` raises or gives a `Scenario` whose every plan can be run."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import UNSET

from harness.model import written
from harness.model.check import check
from harness.model.claims import Claim
from harness.model.document import Node, Problems
from harness.model.errors import UsageError
from harness.model.expect import Expectation
from harness.model.expecting import expectation
from harness.model.fault import Fault
from harness.model.faultrules import check_fault
from harness.model.link import Link
from harness.model.plan import Boot, GroupPlan, Plan
from harness.model.resolve import Resolver
from harness.model.rules import Rules, groups_of
from harness.model.shape import shape_of
from harness.model.toolrules import check_port, check_programs, written_programs
from harness.model.unsaid import completed

SUFFIXES = (".yaml", ".yml")
"""Of scenario files' names."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. `name` is the file's name without its suffix; `links` are in the file's order.

    `long`: the links of those on which it is not run all the time.
    """

    name: str
    title: str
    claim: Claim
    about: str
    links: tuple[Link, ...]
    long: frozenset[Link]
    plans: dict[Link, Plan]

    def for_link(self, link: Link) -> Plan:
        """What to run on `link`, and what to expect of it.

        :raise UsageError: the scenario does not name `link`.
        """
        if link not in self.plans:
            raise UsageError(
                f"scenario {self.name} does not run on link {link.value!r}; "
                f"allowed: {', '.join(known.value for known in self.links)}"
            )
        return self.plans[link]


def load(path: Path) -> Scenario:
    """Read, check and resolve the scenario file at `path`.

    :raise UsageError: `summary` is ``FILE:LINE:COLUMN: what was wrong``, with what is allowed and what was
        perhaps meant; `detail` has the like for each further mistake. Mistakes of syntax hide those of form
        (types, keys, words), and those hide the ones of sense (names, order, counts).
    """
    from harness.model import yaml  # slow to import, and most processes that know scenarios read none

    root = yaml.read(path)
    problems = Problems()
    check(root, shape_of(written.File), problems, "a scenario")
    problems.check(path)
    file = msgspec.convert(root.plain(), written.File)
    groups = groups_of(file, root, problems)
    problems.check(path)
    Rules(file, groups, root, problems).check()
    check_fault(file, groups, root, problems)
    check_programs(file, groups, root, problems)
    _links_expected(file, root, problems)
    long, plans = _long(file, root, problems), dict[Link, Plan]()
    for link in file.links:
        resolver = Resolver(root, link, problems)
        resolved = [resolver.group(source) for source in groups]
        programs = tuple(resolver.program(name, text) for name, text in written_programs(file).items())
        check_port(programs, resolved, link, root, problems)
        if link not in file.expect:
            continue
        plans[link] = Plan(
            scenario=path.stem,
            title=file.title,
            claim=file.claim,
            link=link,
            boot=resolver.boot(file.boot),
            schedule=file.schedule,
            drain=file.drain,
            seqpacket=file.seqpacket,
            linux=file.linux or None,
            guest_linux=file.guest_linux or None,
            groups=tuple(resolved),
            expect=_expect(file, link, resolved, root, problems),
            fault=_fault(file),
            programs=programs,
        )
        _check_boot(plans[link], root, problems)
    problems.check(path)
    return Scenario(
        name=path.stem,
        title=file.title,
        claim=file.claim,
        about=file.about.strip(),
        links=file.links,
        long=long,
        plans=plans,
    )


def _check_boot(plan: Plan, root: Node, problems: Problems) -> None:
    if plan.boot is Boot.COLD and plan.only_cloned:
        what = f"boot cannot be 'cold' on link {plan.link.value!r}: {plan.only_cloned}"
        problems.add(root.at("boot").mark, what)


def _expect(
    file: written.File, link: Link, groups: list[GroupPlan], root: Node, problems: Problems
) -> Expectation:
    """As the file states it, and with what it leaves unsaid."""
    node, fault, before = root.at("expect", link.value), _fault(file), len(problems)
    expect = expectation(node, groups, problems, f"expect of {link.value}")
    if fault is None or len(problems) > before:
        return expect
    return completed(expect, groups, fault, link, node, problems)


def _fault(file: written.File) -> Fault | None:
    return None if file.fault is UNSET else Fault(kind=file.fault.kind, group=file.fault.group)


def _long(file: written.File, root: Node, problems: Problems) -> frozenset[Link]:
    if isinstance(file.long, bool):
        return frozenset(file.links if file.long else ())
    links = [link.value for link in file.links]
    for index, link in enumerate(file.long):
        if link not in file.links:
            problems.add(root.at("long", index).mark, f"link {link.value!r} is not in 'links'", links)
    return frozenset(file.long)


def _links_expected(file: written.File, root: Node, problems: Problems) -> None:
    links = [link.value for link in file.links]
    for index, link in enumerate(file.links):
        if link not in file.expect:
            problems.add(root.at("links", index).mark, f"link {link.value!r} has no expectation in 'expect'")
    for link in file.expect:
        if link not in file.links:
            problems.add(root.at("expect").keys[link.value], f"link {link.value!r} is not in 'links'", links)
