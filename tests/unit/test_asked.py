"""What a run asks for, told from its arguments: items, links, and the images that only some links want."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.errors import HostUnfit, UsageError
from harness.model.link import Link
from harness.model.progress import Silent
from harness.plugin import asked
from harness.plugin.asked import Asked

SCENARIO = """\
title: One client
claim: serial-portable
links: [vsock, hybrid-vsock]
clients: 1
workload:
  - ping: {}
expect:
  vsock: {served: 1}
  hybrid-vsock: {served: 1}
"""
LONG = "long: [hybrid-vsock]\n"
ALL, NO_HYBRID = frozenset(Link), frozenset(Link) - {Link.HYBRID_VSOCK}


def config(folder: Path, *, link: str = "", markers: str = "") -> Any:
    return SimpleNamespace(
        option=SimpleNamespace(vsock_links=[link] if link else None, markexpr=markers),
        args=[str(folder / "scenarios")],
        args_source=pytest.Config.ArgsSource.ARGS,
        invocation_params=SimpleNamespace(dir=folder),
        rootpath=folder,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/one.yaml").write_text(SCENARIO + LONG)
    return tmp_path


@pytest.mark.parametrize(
    ("link", "markers", "items", "links"),
    [
        ("", "", 2, {Link.VSOCK, Link.HYBRID_VSOCK}),
        ("", "not long", 2, {Link.VSOCK}),
        ("vsock", "", 1, {Link.VSOCK}),
        ("hybrid-vsock", "", 1, {Link.HYBRID_VSOCK}),
        ("hybrid-vsock", "not long", 1, set()),
    ],
)
def test_links_that_are_left_out_are_not_asked_for(
    project: Path, link: str, markers: str, items: int, links: set[Link]
) -> None:
    assert asked.check(config(project, link=link, markers=markers)) == Asked(
        items, frozenset(links), named=bool(link), sure=bool(links)
    )


@pytest.mark.parametrize(
    ("markers", "leaves_out"),
    [
        ("not long", True),
        ("not long and not vm", True),
        ("vm and (not (long))", True),
        ("not (long or vm)", True),
        ("", False),
        ("long", False),
        ("vm", False),
        ("not long or vm", False),
        ("not (not long)", False),
        ("not longer", False),
        ("not long and [", False),
        ("not (long and vm)", False),
    ],
)
def test_what_leaves_out_long_items_is_known_of_any_expression(markers: str, leaves_out: bool) -> None:
    assert asked.leaves_out_long(markers) is leaves_out


@pytest.mark.parametrize(
    ("link", "markers", "sure"),
    [
        ("vsock", "not long", True),
        ("isa-serial", "", False),
        ("hybrid-vsock", "not long", False),
        ("", "long", False),  # what another expression leaves only pytest knows
        ("", "not long and vm", False),
    ],
)
@pytest.mark.parametrize("more", [False, True])
def test_whether_a_scenario_is_left_is_known_of_usual_choices(
    project: Path, link: str, markers: str, sure: bool, more: bool
) -> None:
    if more:
        (project / "scenarios/test_more.py").touch()
    assert asked.check(config(project, link=link, markers=markers)).sure is sure


@pytest.mark.parametrize(
    ("link", "markers", "links"),
    [
        ("", "", ALL),
        ("", "not long", NO_HYBRID),
        ("hybrid-vsock", "not long", {Link.HYBRID_VSOCK}),
        ("vsock", "", {Link.VSOCK}),
    ],
)
def test_of_test_modules_nobody_knows(
    project: Path, link: str, markers: str, links: frozenset[Link] | set[Link]
) -> None:
    (project / "scenarios/test_more.py").touch()
    found = asked.check(config(project, link=link, markers=markers))
    assert (found.items, found.links) == (None, frozenset(links))


def test_a_link_that_is_not_long_is_asked_for_in_short_runs_too(project: Path) -> None:
    (project / "scenarios/one.yaml").write_text(SCENARIO)
    assert Link.HYBRID_VSOCK in asked.check(config(project, markers="not long")).links


@pytest.mark.parametrize(
    ("words", "items"),
    [
        (["one.yaml::vsock"], 1),
        (["one.yaml::vsock", "one.yaml::hybrid-vsock"], 2),
        (["one.yaml::vsock", "one.yaml::vsock"], 1),
        (["one.yaml::vsock", "."], 2),
        (["one.yaml"], 2),
    ],
)
def test_an_argument_may_name_a_scenarios_link(project: Path, words: list[str], items: int) -> None:
    wish = config(project)
    wish.args = [str(project / "scenarios" / word) for word in words]
    assert asked.check(wish).items == items


def test_a_link_that_the_scenario_has_not_is_told_before_a_vm_boots(project: Path) -> None:
    wish = config(project)
    wish.args = [str(project / "scenarios/one.yaml::vsok")]
    with pytest.raises(UsageError, match="it has vsock, hybrid-vsock; did you mean 'vsock'"):
        asked.check(wish)


def test_nothing_is_below_a_link(project: Path) -> None:
    wish = config(project)
    wish.args = [str(project / "scenarios/one.yaml::vsock::x")]
    with pytest.raises(
        UsageError, match=r"one\.yaml::vsock::x: nothing is below a link; .*one\.yaml::vsock is one"
    ):
        asked.check(wish)


def test_programs_are_asked_for_where_a_scenario_of_the_run_has_them(project: Path) -> None:
    assert not asked.check(config(project)).programs
    (project / "scenarios/one.yaml").write_text(f"{SCENARIO}{LONG}programs: {{socat: {{}}}}\n")
    assert asked.check(config(project)).programs
    assert asked.check(config(project, markers="not long")).programs
    assert not asked.check(config(project, link="hybrid-vsock", markers="not long")).programs


def test_all_mistakes_are_told(project: Path) -> None:
    for name in ("two", "three"):
        (project / f"scenarios/{name}.yaml").write_text(SCENARIO.replace("clients", name))
    with pytest.raises(UsageError) as caught:
        asked.check(config(project))
    assert caught.value.summary.count("unknown key") == 2


class Shelf:
    """A store that has the image, or can't have it."""

    def __init__(self, image: object) -> None:
        self.image = image
        self.wanted: list[str] = []

    def get(self, name: str, progress: object) -> object:
        self.wanted.append(name)
        if self.image is None:
            raise HostUnfit("no mirror", ability="image-tools")
        return self.image


def images(store: Any, wish: Asked, notes: list[str]) -> list[Any]:
    return asked.images(store, wish, Silent(), notes)


def test_an_image_that_no_link_of_the_run_wants_is_not_built() -> None:
    shelf = Shelf("image")
    assert images(shelf, Asked(1, frozenset({Link.VSOCK})), []) == []
    assert shelf.wanted == []
    assert images(shelf, Asked(1, ALL), []) == ["image"]
    assert shelf.wanted == ["vhost-device-vsock"]


def test_one_that_cannot_be_had_is_a_note_unless_its_link_was_named() -> None:
    notes: list[str] = []
    assert images(Shelf(None), Asked(1, ALL), notes) == []
    assert notes == ["image vhost-device-vsock: no mirror; hybrid-vsock is skipped"]
    with pytest.raises(HostUnfit):
        images(Shelf(None), Asked(1, ALL, named=True), [])


@pytest.mark.parametrize(
    ("programs", "links", "further"),
    [
        (False, [Link.VSOCK], []),
        (False, [Link.VSOCK, Link.SERIAL_PROXY], ["proxy"]),
        (True, [Link.SERIAL_PROXY], ["proxy", "programs"]),
    ],
)
def test_this_machine_gets_the_images_that_the_run_may_need(
    programs: bool, links: list[Link], further: list[str]
) -> None:
    wish = asked.Asked(3, frozenset(links), programs=programs)
    assert asked.usual(wish) == ["qemu", "pod", *further]
