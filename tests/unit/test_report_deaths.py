"""The death matrix: rows from the run's own traces, what differs is marked, the claim is stated anew."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.model.plan import Plan
from harness.model.steps import MeetFault
from harness.model.trace import Event, What
from harness.report import deaths, deathtable, html, markdown
from harness.report.corrected import corrected
from harness.report.results import CaseOutcome, Results
from harness.report.words import expected, plain, seen
from tests.unit import runs
from tests.unit.systems import changed, late, untold
from tests.unit.telling import Telling
from tests.unit.test_report_html import Page
from tests.unit.traces import plan, right, without

KILLED, SHIM, SERIAL_SHIM, AGENT, PAUSED = (
    "reliability-qemu-killed",
    "reliability-shim-killed",
    "reliability-serial-shim-killed",
    "reliability-agent-killed",
    "reliability-paused",
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """QEMU killed and something amiss, a shim killed on two links, an agent killed, a VM paused."""
    cases = [
        runs.evidence(tmp_path, plan(KILLED, "vsock"), blind(right(plan(KILLED, "vsock")))),
        runs.evidence(tmp_path, plan(SHIM, "vsock"), right(plan(SHIM, "vsock"))),
        runs.evidence(tmp_path, plan(SHIM, "serial-proxy"), right(plan(SHIM, "serial-proxy"))),
        runs.evidence(tmp_path, plan(AGENT, "vsock"), right(plan(AGENT, "vsock"))),
        runs.evidence(tmp_path, plan(PAUSED, "vsock"), right(plan(PAUSED, "vsock"))),
    ]
    return runs.write(tmp_path, cases, (KILLED,))


def blind(events: list[Event]) -> list[Event]:
    """The receiving client notices nothing, and the client of another VM is cut off."""
    changes = {"receiving/0": {"sees": "nothing"}, "beside/0": {"sees": "eof", "then": "gone"}}

    def one(event: Event) -> Event:
        change = changes.get(event.client, {}) if event.what in (What.FACT, What.NOTICED) else {}
        return msgspec.structs.replace(
            event, detail={name: change.get(name, value) for name, value in event.detail.items()}
        )

    return [one(event) for event in events]


def rows(results: Results, scenario: str, link: str = "vsock") -> dict[str, tuple[str, ...]]:
    """Cells by client."""
    (death,) = [
        death
        for death in deaths.deaths(results)
        if (death.item.subject.scenario, death.item.subject.link) == (scenario, link)
    ]
    return {one.client: one.cells for one in death.met} | {"others": (death.others,)}


def test_a_row_for_each_end_with_errno_and_time(results: Results) -> None:
    seen = rows(results, KILLED)
    assert seen["idle/0"] == ("idle", "ECONNRESET after 0.03 s", "ECONNRESET", "gone", "ENODEV", "–")
    assert seen["receiving/0"][1] == "nothing in 0.03 s"
    assert seen["connecting/0"] == ("connecting", "ENODEV after 0.03 s", "–", "–", "ENODEV", "–")


def test_what_is_not_as_expected_is_marked(results: Results) -> None:
    killed = deaths.deaths(results)[0]
    assert [one.client for one in killed.met if not one.fits] == ["receiving/0", "beside/0"]
    assert killed.item.outcome is CaseOutcome.FAILED
    assert all(one.fits for death in deaths.deaths(results)[1:] for one in death.met)


def test_what_else_was_disturbed(results: Results) -> None:
    assert rows(results, KILLED)["others"] == ("beside/0: eof after 0.03 s, then gone",)
    assert rows(results, AGENT)["others"] == ("nothing (1 client of another VM)",)
    (told,) = rows(results, SHIM)["others"]
    assert told == "nothing (6 clients of the same VM); the dead shims' containers are gone after 0.05 s"
    assert rows(results, PAUSED)["others"] == ("nothing (1 client of another VM); containers: 2 running",)
    assert rows(results, SHIM)["victim/0"] == ("idle", "–", "–", "–", "–", "eof after 0.04 s")


def test_who_could_not_open_a_second_connection_is_not_disturbed(tmp_path: Path) -> None:
    """A serial port's client goes on with the one it has."""

    def asked(event: Event) -> Event:
        kept = {name: value for name, value in event.detail.items() if name != "reconnect"}
        return msgspec.structs.replace(event, detail=kept) if event.client == "beside/0" else event

    on_link = plan("reliability-serial-qemu-killed", "virtio-serial")
    found = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, list(map(asked, right(on_link))))])
    told = rows(found, "reliability-serial-qemu-killed", "virtio-serial")["others"]
    assert told[0].startswith("nothing (1 client of another VM)")


def test_where_nobody_else_was_looked_at_it_says_so(tmp_path: Path) -> None:
    on_link = plan("reliability-unplugged", "vsock")
    on_link = msgspec.structs.replace(on_link, groups=on_link.groups[:1])
    found = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, right(on_link))])
    (told,) = rows(found, "reliability-unplugged")["others"]
    assert told == "nobody looked; the containers are gone after 0.05 s"


def test_containers_are_gone_when_the_agent_says_and_not_when_somebody_looked(tmp_path: Path) -> None:
    on_link = plan(SHIM, "vsock")
    for system, says in (
        (late("victim/1", "containers", 7.5), "the dead shims' containers are gone after 7.50 s"),
        (untold("victim/1", "containers-gone"), "containers: 1 running"),
    ):
        cases = [runs.evidence(tmp_path, on_link, system(on_link))]
        told = rows(runs.write(tmp_path, cases), SHIM)["others"]
        assert told == (f"nothing (6 clients of the same VM); {says}",)


def test_of_containers_that_are_gone_nobody_knows_when(tmp_path: Path) -> None:
    """As on a serial port of a copy, whose agent saw no client leave."""
    on_link = plan("reliability-serial-restored", "virtio-serial")
    cases = [runs.evidence(tmp_path, on_link, untold("shim/0", "containers-gone")(on_link))]
    told = rows(runs.write(tmp_path, cases), "reliability-serial-restored", "virtio-serial")["others"]
    assert told == ("nothing (1 client of another VM); the containers are gone",)


@pytest.mark.parametrize(
    ("scenario", "link", "client", "running", "says"),
    [
        (SERIAL_SHIM, "isa-serial", "victim/0", 1, "the dead shim's container runs on"),
        (SHIM, "hybrid-vsock", "victim/0", 2, "1 of the dead shims' containers runs on"),
        (SHIM, "hybrid-vsock", "victim/0", 3, "2 of the dead shims' containers run on"),
    ],
)
def test_whose_container_runs_on_is_said(
    tmp_path: Path, scenario: str, link: str, client: str, running: int, says: str
) -> None:
    """Of several that run, those of clients which live are no part of it."""
    on_link = plan(scenario, link)
    events = changed(untold(client, "containers-gone")(on_link), client, {"containers": f"{running} running"})
    cases = [runs.evidence(tmp_path, on_link, events)]
    (told,) = rows(runs.write(tmp_path, cases), scenario, link)["others"]
    assert told.endswith(f"; {says}")


def test_the_claim_is_stated_as_it_was_seen(results: Results) -> None:
    killed, paused, blind, shim, proxied = corrected(deaths.deaths(results))
    assert shim.startswith("shim killed (vsock); others notice: nothing (6 clients of ")
    assert "(serial-proxy)" in proxied
    assert killed == (
        "lost as well, though VM and shim live: agent killed (vsock): eof, EPIPE within 0.03 s."
    )
    assert paused == (
        "not lost, and nothing is told: VM stopped for a while (vsock): new ones get ETIMEDOUT."
    )
    assert blind == (
        "told to some ends only: QEMU killed (vsock): ECONNRESET within 0.03 s (idle, sending, receiving/1), "
        "nothing (receiving/0)."
    )


@pytest.mark.parametrize(
    ("scenario", "then", "says"),
    [
        (KILLED, "", "the VM's death is told to the host's ends: QEMU killed (vsock): ECONNRESET within"),
        (
            "reliability-guest-panic",
            "",
            "the VM's death is not told, and connections look alive: guest kernel",
        ),
        (AGENT, "", "lost as well, though VM and shim live: agent killed (vsock): eof, EPIPE within"),
        (PAUSED, "", "not lost, and nothing is told: VM stopped"),
        (PAUSED, "eof", "lost, though VM and shim live, and it is not told: VM stopped"),
    ],
)
def test_what_is_said_of_each_kind_of_end(tmp_path: Path, scenario: str, then: str, says: str) -> None:
    on_link = plan(scenario, "vsock")
    events = [
        msgspec.structs.replace(event, detail={**event.detail, "then": then})
        if then and "then" in event.detail and not event.client.startswith("beside")
        else event
        for event in right(on_link)
    ]
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, events)])
    (sentence,) = corrected(deaths.deaths(results))
    assert says in sentence


def test_a_death_that_only_some_ends_are_told_is_no_gap_in_the_claim(tmp_path: Path) -> None:
    """As on Linux 7.2, where a sender that has credit left is told of a pause."""
    cases = []
    for scenario, client in ((PAUSED, "sending/0"), ("reliability-guest-panic", "idle/1")):
        on_link = plan(scenario, "vsock")
        events = changed(right(on_link), client, {"sees": "EHOSTUNREACH"})
        cases.append(runs.evidence(tmp_path, on_link, events))
    assert list(corrected(deaths.deaths(runs.write(tmp_path, cases)))) == [
        "told to some ends only: guest kernel panicked (vsock): EHOSTUNREACH within 0.03 s "
        "(idle/1), nothing (idle/0, sending, receiving); VM stopped for a while (vsock): EHOSTUNREACH within "
        "0.03 s (sending/0), nothing (idle, sending/1, receiving)."
    ]


def test_the_matrix_is_in_the_page_and_in_the_summary(results: Results) -> None:
    page = Page(html.page(results))
    assert "deaths-title" in page.sections
    assert "nothing in 0.03\u00a0s" in page.text
    assert "≠ receiving" in page.text
    assert "idle, either had connected, and is the one killed" in page.text
    text = markdown.markdown(results)
    assert "| ≠ QEMU killed | vsock | `receiving` | `nothing in 0.03 s` |" in text
    assert "| shim killed | serial-proxy | `idle` |" in text
    lines = [line for line in text.splitlines() if line.startswith(("| QEMU", "| ≠ QEMU", "| shim"))]
    assert {line.count(" | ") for line in lines} == {8}
    (said,) = re.findall(r"<summary>(\d+) clients in (\d+) rows", text)
    clients = sum(len(death.met) for death in deaths.deaths(results))
    told = [line for line in text.partition("<summary>")[2].splitlines() if line.startswith("| ")]
    assert [int(number) for number in said] == [clients, len(told) - 2]
    assert len(told) - 2 < clients
    assert [line for line in lines if "nothing (6 clients" in line] == [
        line for line in lines if "| `idle" in line and "and is the one killed`" in line
    ]


def test_what_a_guest_says_of_its_end_stays_text(tmp_path: Path) -> None:
    on_link = plan(SHIM, "vsock")
    telling = Telling(on_link)
    telling.events = right(on_link)
    telling.say("victim/0", What.FACT, guest=runs.HOSTILE)
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, telling.events)])
    assert "<img" not in html.page(results)
    row = next(line for line in markdown.markdown(results).splitlines() if "is the one killed" in line)
    assert row.replace("\\|", "").count("|") == 10


def test_the_table_of_claims_is_not_filled_with_facts_that_are_as_expected(results: Results) -> None:
    def told(scenario: str) -> str:
        item = next(item for item in results.items if item.subject.scenario == scenario)
        assert item.verdict
        return plain(seen(item.plan, item.verdict, brief=True))

    assert told(AGENT) == "host ends saw eof, EPIPE, ECONNRESET"
    assert told(KILLED) == (
        "receiving: ≠ sees nothing and ECONNRESET; beside: ≠ sees eof, ≠ then gone; "
        "receiving: ≠ the host's end did not notice"
    )
    assert told(SHIM) == "host ends saw nothing"


def test_without_a_fault_there_is_no_matrix(tmp_path: Path) -> None:
    results = runs.mixed(tmp_path)
    assert deathtable.section(results) is None
    assert "What dies" not in markdown.markdown(results)


def test_a_fault_that_left_no_trace_has_its_row(tmp_path: Path) -> None:
    on_link = plan(KILLED, "vsock")
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, [])])
    assert "QEMU killed" in html.page(results)


def test_of_who_saw_the_same_the_guests_latest_time_is_told(tmp_path: Path) -> None:
    on_link = plan("reliability-unplugged", "vsock")
    events = late("idle/0", "guest", 0.75)(on_link)
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, events)])
    (idle,) = [one for one in deaths.deaths(results)[0].shown if one.client.startswith("idle/")]
    assert idle.cells[-1] == "ECONNRESET after 0.75 s"


def test_what_is_seen_before_a_fault_is_done_is_said_so(tmp_path: Path) -> None:
    """Of a restore: the VM is stopped to be saved before it ends."""
    on_link = plan("reliability-restored", "vsock")
    events = changed(late("sending/1", "host", -0.4)(on_link), "sending/1", {"sees": "ECONNRESET early"})
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, events)])
    (death,) = deaths.deaths(results)
    (early,) = [one for one in death.met if one.client == "sending/1"]
    assert early.cells[1] == "ECONNRESET 0.40 s before"
    assert not early.fits


def test_who_noticed_too_late_is_marked(tmp_path: Path) -> None:
    on_link = plan(KILLED, "vsock")
    events = late("sending/1", "host", 2.5)(on_link)
    results = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, events)], (KILLED,))
    (death,) = deaths.deaths(results)
    assert [one.client for one in death.met if not one.fits] == ["sending/1"]
    assert [one.fits for one in death.shown if one.client.startswith("sending/")] == [False]
    (item,) = results.items
    assert item.verdict
    assert (
        plain(seen(item.plan, item.verdict, brief=True)) == "sending: ≠ the host's end noticed after 2.50 s"
    )
    assert "idle, sending, receiving: the host's end notices within 0.2 s" in expected(
        item.plan, item.verdict
    )


def test_who_saw_the_same_is_one_row_whoever_had_connected(results: Results) -> None:
    killed = deaths.deaths(results)[0]
    shown = [(deaths.who(one), one.fits) for one in killed.shown]
    assert ("idle, either had connected", True) in shown
    assert ("receiving", False) in shown
    assert ("receiving, the guest had connected", True) in shown
    assert len(killed.shown) == len(killed.met) - 2
    (idle,) = [one for one in killed.shown if deaths.who(one).startswith("idle, either")]
    assert idle.seconds == max(one.seconds or 0 for one in killed.met if one.client.startswith("idle/"))


def lost_early(on_link: Plan, *clients: str) -> list[Event]:
    """Their connections end before the fault comes."""
    events = right(on_link)
    for client in clients:
        group = next(group for group in on_link.groups if client in group.clients)
        step = next(at for at, one in enumerate(group.workload) if isinstance(one, MeetFault))
        telling = Telling(on_link)
        telling.events = without(events, client)
        events = telling.connects(client).say(client, What.LOST, step, "meet-fault", errno="EPIPE").events
    return events


def test_a_bystander_who_was_lost_before_the_fault_is_disturbed(tmp_path: Path) -> None:
    on_link = plan(SHIM, "vsock")
    cases = [runs.evidence(tmp_path, on_link, lost_early(on_link, "idle/0"))]
    (told,) = rows(runs.write(tmp_path, cases), SHIM)["others"]
    assert told.startswith("idle/0: lost its connection in step 3 (meet-fault): EPIPE; the dead shim")


def test_where_the_only_bystander_was_lost_somebody_looked(tmp_path: Path) -> None:
    on_link = plan(AGENT, "vsock")
    found = runs.write(tmp_path, [runs.evidence(tmp_path, on_link, lost_early(on_link, "beside/0"))])
    assert rows(found, AGENT)["others"] == ("beside/0: lost its connection in step 1 (meet-fault): EPIPE",)


def test_who_was_hit_and_told_nothing_has_a_row_and_is_no_part_of_the_claim(tmp_path: Path) -> None:
    on_link = plan(KILLED, "vsock")
    cases = [runs.evidence(tmp_path, on_link, lost_early(on_link, "idle/0", "receiving/1"))]
    found = runs.write(tmp_path, cases)
    saw = rows(found, KILLED)
    lost = "lost its connection in step 1 (meet-fault): EPIPE"
    assert saw["idle/0"] == ("idle", lost, "–", "–", "–", "–")
    (death,) = deaths.deaths(found)
    assert [one.client for one in death.met if not one.fits] == ["idle/0", "receiving/1"]
    assert lost in Page(html.page(found)).text
    assert f"`{lost}`" in markdown.markdown(found)
    assert list(corrected([death])) == [
        "the VM's death is told to the host's ends: QEMU killed (vsock): ECONNRESET within 0.03 s."
    ]


def test_of_an_end_that_nobody_judged_it_is_said_that_nothing_was_told(tmp_path: Path) -> None:
    on_link = plan(AGENT, "vsock")
    case = runs.evidence(tmp_path, on_link, lost_early(on_link, "beside/0"))
    (tmp_path / f"{AGENT}-vsock" / "verdict.json").unlink()
    assert rows(runs.write(tmp_path, [case]), AGENT)["others"] == ("beside/0: told nothing",)


@pytest.mark.parametrize(
    ("client", "facts", "says"),
    [
        (
            "idle/0",
            {"reconnect": "ECONNRESET"},
            "idle/0: nothing in 0.03 s, then served, a new one: ECONNRESET",
        ),
        ("connecting/0", {"reconnect": "silent"}, "connecting/0: nothing in 0.03 s, a new one: silent"),
        ("idle/0", {"then": "silent"}, "idle/0: nothing in 0.03 s, then silent"),
    ],
)
def test_what_a_disturbed_bystander_saw_tells_of_its_new_connection(
    tmp_path: Path, client: str, facts: dict[str, str], says: str
) -> None:
    on_link = plan(SHIM, "vsock")
    cases = [runs.evidence(tmp_path, on_link, changed(right(on_link), client, facts))]
    (told,) = rows(runs.write(tmp_path, cases), SHIM)["others"]
    assert told == f"{says}; the dead shims' containers are gone after 0.05 s"


def test_a_bystander_who_is_lost_after_it_looked_is_disturbed(tmp_path: Path) -> None:
    on_link = plan(AGENT, "vsock")
    telling = Telling(on_link)
    telling.events = right(on_link)
    telling.say("beside/0", What.LOST, errno="ECONNRESET")
    (told,) = rows(runs.write(tmp_path, [runs.evidence(tmp_path, on_link, telling.events)]), AGENT)["others"]
    assert told == "beside/0: nothing in 0.03 s, then served, lost its connection while holding: ECONNRESET"
