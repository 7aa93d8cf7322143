"""What depends on the kernel of the host: facts, and whole scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.judge import judge
from harness.model.errors import HostUnfit
from harness.model.expect import FactWanted, OnKernel, is_wanted, version_of
from harness.model.link import Link
from harness.model.plan import Plan
from harness.model.scenario import load
from tests.unit.mistakes import Mistake, each, says_only
from tests.unit.systems import changed
from tests.unit.test_judge import ALL
from tests.unit.traces import loaded, right

BY_KERNEL = """\
title: T
claim: reliability
links: [vsock]
linux: "5.14"
fault: {kind: pause}
clients:
  one:
    workload:
      - meet-fault: {while: idle}
expect:
  vsock: {served: 1, facts: {one: {sees: {linux: "6.12", before: EPIPE, since: [ECONNRESET, ENODEV]}}}}
"""
VERSION = 'a kernel\'s version in quotes, such as "6.12"'
SEES = "facts of expect of vsock of one of sees"

MISTAKES = [
    ('linux: "5.14"', "linux: 5.14", "4:8: linux must be {version}, not the number 5.14: put it in quotes"),
    ('linux: "5.14"', 'linux: "5"', "4:8: linux must be {version}, not '5'"),
    ('linux: "6.12"', 'linux: "six"', "11:50: linux must be {version}, not 'six'"),
    (", before: EPIPE", "", "11:42: {sees} lacks the key 'before'"),
    (
        "before: EPIPE",
        "befor: EPIPE",
        "11:58: unknown key 'befor'; allowed: linux, guest-linux, before, since; did you mean 'before'?",
    ),
    ('linux: "6.12", before', "before", "11:42: sees needs 'linux' or 'guest-linux', and not both"),
    (
        '{linux: "6.12"',
        '{linux: "6.12", guest-linux: "6.1"',
        "11:42: sees needs 'linux' or 'guest-linux', and not both",
    ),
    (
        'linux: "6.12", before: EPIPE, since: [ECONNRESET, ENODEV]',
        'guest-linux: "6.12", before: EPIPE, since: {linux: "7.2", before: eof, since: eof}',
        "11:86: since 'guest-linux' it is a value, or a list",
    ),
    ("since: [ECONNRESET, ENODEV]", "since: []", "11:80: since is empty"),
    (
        "[ECONNRESET, ENODEV]",
        '{linux: "6.12", before: eof, since: EPIPE}',
        "11:88: linux 6.12 is not later than 6.12",
    ),
    ("[ECONNRESET, ENODEV]", '{linux: "7.2", since: EPIPE}', "11:80: since lacks the key 'before'"),
]


def on_any_kernel(scenario: str, link: str) -> Plan:
    return loaded(scenario).for_link(Link(link))


def written(tmp_path: Path, text: str = BY_KERNEL) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("release", "sees"),
    [
        ("5.14.0", "EPIPE"),
        ("6.1.0-56-cloud-amd64", "EPIPE"),
        ("6.12.118+deb13-cloud-amd64", ("ECONNRESET", "ENODEV")),
        ("7.2-rc1", ("ECONNRESET", "ENODEV")),
        ("10.0.1", ("ECONNRESET", "ENODEV")),
    ],
)
def test_a_fact_is_what_the_hosts_kernel_makes_it(tmp_path: Path, release: str, sees: object) -> None:
    here = load(written(tmp_path)).for_link(Link.VSOCK).on_kernel(release, "6.12")
    assert here.expect.facts == {"one": {"sees": sees}}
    assert here.expect.newer == ()


@pytest.mark.parametrize(
    ("release", "sees"),
    [("6.1", "EPIPE"), ("6.12", "ENODEV"), ("7.1.9", "ENODEV"), ("7.2", ("nothing", "eof"))],
)
def test_a_fact_may_be_another_on_a_third_kernel(tmp_path: Path, release: str, sees: object) -> None:
    later = '{linux: "7.2", before: ENODEV, since: [nothing, eof]}'
    text = BY_KERNEL.replace("[ECONNRESET, ENODEV]", later)
    here = load(written(tmp_path, text)).for_link(Link.VSOCK).on_kernel(release, "6.12")
    assert here.expect.facts == {"one": {"sees": sees}}


@pytest.mark.parametrize(("guest", "sees"), [("6.1.192", "EPIPE"), ("6.12", ("ECONNRESET", "ENODEV"))])
def test_a_fact_is_what_the_guests_kernel_makes_it(tmp_path: Path, guest: str, sees: object) -> None:
    text = BY_KERNEL.replace('{linux: "6.12"', '{guest-linux: "6.12"')
    for host in ("5.14", "7.2"):
        here = load(written(tmp_path, text)).for_link(Link.VSOCK).on_kernel(host, guest)
        assert here.expect.facts == {"one": {"sees": sees}}


def test_an_older_kernel_than_a_scenario_needs_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(
        HostUnfit, match=r"needs Linux 5\.14 or later on the host, here is 5\.10\.0-32"
    ) as caught:
        load(written(tmp_path)).for_link(Link.VSOCK).on_kernel("5.10.0-32-cloud-amd64", "6.12")
    assert caught.value.ability == "linux-5.14"


@pytest.mark.parametrize("guest", ["5.14.0-1", "6.12"])
def test_a_guest_that_is_new_enough(tmp_path: Path, guest: str) -> None:
    text = BY_KERNEL.replace('linux: "5.14"', 'guest-linux: "5.14"')
    assert load(written(tmp_path, text)).for_link(Link.VSOCK).on_kernel("5.10", guest).expect.facts


def test_an_older_guest_than_a_scenario_needs_is_the_hosts_fault(tmp_path: Path) -> None:
    text = BY_KERNEL.replace('linux: "5.14"', 'guest-linux: "5.14"')
    with pytest.raises(
        HostUnfit, match=r"needs Linux 5\.14 or later in the guest, here is 5\.10\.0-32"
    ) as caught:
        load(written(tmp_path, text)).for_link(Link.VSOCK).on_kernel("6.12", "5.10.0-32-cloud-amd64")
    assert caught.value.ability == "guest-linux-5.14"


@each(MISTAKES)
def test_one_mistake(tmp_path: Path, mistake: Mistake) -> None:
    says_only(tmp_path, BY_KERNEL, mistake, sees=SEES, version=VERSION)


@pytest.mark.parametrize(("scenario", "link"), [one for one in ALL if on_any_kernel(*one).expect.newer])
def test_what_is_right_on_one_kernel_is_wrong_on_another(scenario: str, link: str) -> None:
    on_any = on_any_kernel(scenario, link)
    for since in {one.since for one in on_any.expect.newer}:
        here = on_any.on_kernel(since, since)
        older, newer = right(on_any), right(on_any)
        for group, wanted in on_any.expect.facts.items():
            for client in (client for client in on_any.clients if client.startswith(f"{group}/")):
                older = changed(older, client, {name: first(value) for name, value in wanted.items()})
                facts = here.expect.facts[group].items()
                newer = changed(newer, client, {name: first(value) for name, value in facts})
        assert judge(on_any, older).differences == ()
        assert judge(here, newer).differences == ()
        wrong = "\n".join(judge(here, older).differences)
        assert all(f"fact {one.fact} of {one.group}/0 is " in wrong for one in surely(on_any, here))


def surely(on_any: Plan, here: Plan) -> list[OnKernel]:
    """Facts whose oldest value is none of those here."""
    oldest, now = on_any.expect.facts, here.expect.facts
    return [
        one
        for one in on_any.expect.newer
        if not is_wanted(first(oldest[one.group][one.fact]), now[one.group][one.fact])
    ]


def first(wanted: FactWanted) -> str:
    return wanted if isinstance(wanted, str) else wanted[0]


@pytest.mark.parametrize(("release", "version"), [("6.12.118-cloud", (6, 12)), ("7.2", (7, 2))])
def test_version_of(release: str, version: tuple[int, int]) -> None:
    assert version_of(release) == version
