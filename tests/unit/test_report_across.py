"""Runs on several kernels side by side: what differs, what scenarios leave open, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.cli.main import main
from harness.model.factwords import EARLY
from harness.model.trace import Event, What
from harness.report import deaths, reading
from harness.report.across import Fact, Told, across, markdown
from harness.report.results import CaseOutcome, Results
from tests.unit import runs
from tests.unit.traces import plan, right

PANIC, NOBODY, MESSAGES = (
    "reliability-guest-panic",
    "multiple-clients-no-such-cid",
    "multiple-clients-seqpacket",
)
OLD, NEW = "6.12.118+deb13-cloud-amd64", "7.2.3-cloud-amd64"

Change = Callable[[Event], Event]


def on(folder: Path, release: str, scenario: str, change: Change = lambda event: event) -> Results:
    """A run of one scenario as it should be on a host with this kernel, but for the change."""
    on_link = plan(scenario, "vsock").on_kernel(release, "6.12")
    case = runs.evidence(folder, on_link, [change(event) for event in right(on_link)])
    facts = folder / f"{scenario}-vsock" / "facts.json"
    told = msgspec.json.decode(facts.read_bytes()) | {"host_kernel": release}
    facts.write_bytes(msgspec.json.encode(told))
    return runs.write(folder, [case])


def guested(folder: Path, kernel: str) -> None:
    """Say of the run's item that its guest had this kernel."""
    facts = folder / f"{PANIC}-vsock" / "facts.json"
    told = msgspec.json.decode(facts.read_bytes())
    told["hello"]["kernel"] = kernel
    facts.write_bytes(msgspec.json.encode(told))


def saying(client: str, **facts: str) -> Change:
    """The client tells this of these facts."""

    def change(event: Event) -> Event:
        if event.client != client or event.what is not What.FACT:
            return event
        own = {name: value for name, value in facts.items() if name in event.detail}
        return msgspec.structs.replace(event, detail={**event.detail, **own})

    return change


def rows(text: str, title: str) -> list[str]:
    """The rows of one table, without its heads."""
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("|")][2:]


DIFFERS, OPEN = "What differs between kernels", "What scenarios leave open, and was not seen the same on all"


def test_what_one_kernel_shows_and_another_does_not_allow_is_a_difference(tmp_path: Path) -> None:
    new = on(tmp_path / "new", NEW, PANIC, saying("listening/0", reconnect="EHOSTUNREACH"))
    old = on(tmp_path / "old", OLD, PANIC, saying("listening/0", reconnect="ETIMEDOUT"))
    found = across([new, old])
    assert list(found.ran) == ["6.12", "7.2"]
    assert (found.ran["6.12"].runs, found.ran["6.12"].ended) == (1, "1 passed")
    said = [row for row in rows(markdown(found), DIFFERS) if "listening" in row]
    assert said == ["|  | listening | reconnect ETIMEDOUT | reconnect EHOSTUNREACH |"]
    first = rows(markdown(found), DIFFERS)[0]
    assert first.startswith("| guest kernel panicked (vsock) |")


def test_what_a_scenario_allows_on_both_is_told_apart(tmp_path: Path) -> None:
    """QEMU's death gives a sender one of two errnos, on either kernel."""
    killed = "reliability-qemu-killed"
    one = on(tmp_path / "one", OLD, killed, saying("sending/0", sees="ECONNRESET"))
    other = on(tmp_path / "other", NEW, killed, saying("sending/0", sees="ENODEV"))
    text = markdown(across([one, other]))
    assert not [row for row in rows(text, DIFFERS) if "sending" in row]
    assert [row for row in rows(text, OPEN) if "sending" in row]


def test_what_is_red_where_nobody_names_it_is_not_left_open() -> None:
    """As the judge has it: a new connection that is garbled, what was seen before the fault."""
    for name, seen in (("reconnect", "garbled"), ("sees", f"eof{EARLY}")):
        here, there = Told(frozenset({seen}), None), Told(frozenset({"served"}), None)
        assert not Fact(name, {"6.12": here, "7.2": there}).open
        assert Fact("then", {"6.12": here, "7.2": there}).open


def test_several_runs_on_one_kernel_are_one_column_with_all_that_was_seen(tmp_path: Path) -> None:
    killed = "reliability-qemu-killed"
    told = [
        on(tmp_path / name, release, killed, saying("connecting/0", sees=sees))
        for name, release, sees in [("a", OLD, "ENODEV"), ("b", OLD, "ETIMEDOUT"), ("c", NEW, "ENODEV")]
    ]
    found = across(told)
    assert found.ran["6.12"].runs == 2
    assert any("| sees ENODEV or ETIMEDOUT | sees ENODEV |" in row for row in rows(markdown(found), OPEN))


def test_what_is_skipped_or_fails_on_one_is_a_difference(tmp_path: Path) -> None:
    new = on(tmp_path / "new", NEW, MESSAGES)
    old = on(tmp_path / "old", "5.10.0-32-cloud-amd64", PANIC)
    skipped = runs.case(plan(MESSAGES, "vsock"), CaseOutcome.SKIPPED, "needs Linux 5.14")
    old = runs.write(tmp_path / "old", [*old.cases, skipped])
    text = markdown(across([old, new]))
    assert rows(text, DIFFERS) == [f"| {MESSAGES} (vsock) | outcome | skipped | passed |"]
    assert "* guest kernel panicked (vsock)\n" in text.partition("## Not run on all")[2]


def test_an_errno_asked_for_is_compared_as_well(tmp_path: Path) -> None:
    def unreachable(event: Event) -> Event:
        held = event.detail.get("seen") == "ETIMEDOUT" and event.client == "dialling/0"
        return msgspec.structs.replace(event, detail={"seen": "EHOSTUNREACH"}) if held else event

    text = markdown(across([on(tmp_path / "a", OLD, NOBODY), on(tmp_path / "b", NEW, NOBODY, unreachable)]))
    said = "dialling | connect to no-vm ETIMEDOUT | connect to no-vm EHOSTUNREACH |"
    assert any(row.endswith(said) for row in rows(text, DIFFERS))


def test_guests_with_several_kernels_are_columns_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "other"):
        on(tmp_path / name, OLD, PANIC)
    guested(tmp_path / "one", NEW)
    found = across([reading.read(tmp_path / name) for name in ("one", "other")])
    assert list(found.ran) == ["6.12, guest 6.12", "6.12, guest 7.2"]
    (death, *_) = deaths.deaths(reading.read(tmp_path / "one"))
    assert death.kernel == f"{OLD} (guest {NEW})"
    (death, *_) = deaths.deaths(reading.read(tmp_path / "other"))
    assert death.kernel == OLD


def test_times_are_no_difference(tmp_path: Path) -> None:
    """How soon a guest's end noticed is another figure in each run."""

    def late(event: Event) -> Event:
        told = event.what is What.FACT and event.client == "idle/0"
        return (
            msgspec.structs.replace(event, detail={**event.detail, "guest-noticed": 0.3}) if told else event
        )

    killed = "reliability-qemu-killed"
    text = markdown(across([on(tmp_path / "a", OLD, killed), on(tmp_path / "b", NEW, killed, late)]))
    assert "guest-noticed" not in text


def test_the_command_prints_it_and_refuses_what_it_cant_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, release in (("old", OLD), ("same", OLD), ("new", NEW)):
        on(tmp_path / name, release, PANIC)
    old, same, new = (str(tmp_path / name) for name in ("old", "same", "new"))
    assert main(["report", old, new]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| Linux | runs | tests | host | guest | QEMU |\n")
    assert not (tmp_path / "old/report.html").exists()
    assert main(["report", old, same]) == 2
    assert "all of these ran on Linux 6.12" in capsys.readouterr().err
    (tmp_path / "old" / f"{PANIC}-vsock" / "facts.json").unlink()
    assert main(["report", old, new]) == 2
    assert "not known" in capsys.readouterr().err
