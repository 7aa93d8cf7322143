"""Which hosts a run has and what they get: how many labs and workers, which images, whose reports."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.host import admission
from harness.lab import deploy, lab
from harness.lab.kept import Loan
from harness.plugin import controller, hosts, sending
from tests.unit.images import image


@pytest.mark.parametrize(("free", "count"), [(1000, 1), (2500, 1), (6656, 2), (9000, 3), (64000, 4)])
def test_so_many_labs_start_as_each_would_find_memory_for(
    free: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "free_mib", lambda: free)
    monkeypatch.setattr(lab, "free_mib", lambda: free // count)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert hosts.lab_count(9, 4096) == count
    if free > 1000:
        lab.check_memory(4096)


@pytest.mark.parametrize(
    ("wanted", "most", "shared"),
    [
        (None, [2, 2], [1, 1]),
        (3, [2, 2], [2, 1]),
        (50, [2, 2], [2, 2]),
        (5, [9, 9, 9], [2, 2, 1]),
        (50, [4, 32], [4, 32]),
        (9, [2, 16], [2, 7]),
        (1, [2, 2], [1, 1]),
    ],
)
def test_workers_are_shared_out(wanted: int | None, most: list[int], shared: list[int]) -> None:
    assert hosts.shares(wanted, most) == shared


def test_a_run_says_what_became_of_the_workers_asked_for() -> None:
    said = sending.fewer(4, 50, {"lab0": 2, "lab1": 2})
    assert said == "workers: 4 of the 50 asked for; more would only wait (VMs at once: lab0 2, lab1 2)"


@pytest.mark.parametrize(
    ("wanted", "most", "left", "told"),
    [
        (50, None, 3, 1),
        (3, None, None, 0),
        (50, 2, 2, 0),
        (50, 8, 3, 1),
        ("auto", None, 3, 0),
        ("auto", 2, 2, 0),
    ],
)
def test_here_too_no_more_workers_than_may_have_vms(
    wanted: int | str, most: int | None, left: int | None, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "places", lambda: 3)
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses=wanted, maxprocesses=most))
    assert len(controller._no_more_than_carried(config)) == told
    assert config.option.maxprocesses == left


def test_a_report_bears_the_alias_of_its_host() -> None:
    fleet = SimpleNamespace(remotes={"host1": None})
    for alias, properties in (("host1", [("claim", "x"), ("host", "host1")]), (None, [("claim", "x")])):
        config = SimpleNamespace(stash={controller.FLEET: fleet})
        node = SimpleNamespace(config=config, gateway=SimpleNamespace(spec=SimpleNamespace(ssh=alias)))
        report = SimpleNamespace(node=node, user_properties=[("claim", "x")])
        controller.pytest_runtest_logreport(report)
        assert report.user_properties == properties
    controller.pytest_runtest_logreport(SimpleNamespace(user_properties=[]))


@pytest.mark.parametrize(
    ("built", "sent"), [("2026", []), ("2025", ["/cache/images/pod/0"]), ("", ["/cache/images/pod/0"])]
)
def test_an_image_that_the_host_has_for_all_is_not_sent(built: str, sent: list[str]) -> None:
    placed: list[str] = []
    ours = image(Path("/local"), "pod")

    class Ssh:
        def run_unchecked(self, argv: list[str]) -> Any:
            assert argv[-1] == "/var/lib/vsock-harness/images/pod/0/manifest.json"
            there = msgspec.structs.replace(ours.manifest, built=built, bytes=1)
            return SimpleNamespace(out=msgspec.json.encode(there).decode() if built else "")

        def run(self, argv: list[str]) -> None:
            assert argv == ["touch", "/cache/images/pod/0.sent"]

        def place(self, source: Path, target: PurePosixPath, *, mark: str) -> bool:
            placed.append(str(target))
            return True

    ssh: Any = Ssh()
    deploy._place_image(ours, PurePosixPath("/cache/images"), ssh)
    assert placed == sent


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "kept since noon"),
        ({"workers": 1}, "kept since noon"),
        ({"workers": 2}, "the kept lab is not used: -n given"),
        ({"fresh": True, "memory_mib": 2048}, "the kept lab is not used: --lab-memory, --fresh-lab given"),
        ({"images": ("debian",)}, "the kept lab is not used: --with-image or --guest given"),
        ({"kernel": "bookworm"}, "the kept lab is not used: --lab-kernel given"),
    ],
)
@pytest.mark.parametrize("is_up", [True, False])
def test_a_kept_lab_that_is_not_used_is_told_why(
    given: dict[str, Any], reason: str, is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: Any = object()

    class Keep:
        def find(self) -> object:
            return there if is_up else None

        def borrowed(self, images: object) -> contextlib.AbstractContextManager[Loan]:
            loan = Loan(there, "kept since noon") if is_up else Loan(None, "no lab is kept")
            return contextlib.nullcontext(loan)

    monkeypatch.setattr(hosts, "Keep", Keep)
    wish = hosts.LabWish(**{"workers": None, "memory_mib": None, "items": 9, "fresh": False, **given})
    images: Any = None
    with hosts._borrowed(wish, images) as loan:
        used = reason.startswith("kept")
        assert loan.lab is (there if used and is_up else None)
        assert loan.reason == (reason if is_up else "no lab is kept" if used else "")
