"""What a process that runs items holds, given back in the right order; where a test's evidence goes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.model.link import Link
from harness.plugin import fixtures
from harness.plugin.bench import Bench, Setting
from harness.run import place, pod


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Bench, list[str]]:
    """A bench without VMs, and what was given back."""
    back: list[str] = []

    @contextlib.contextmanager
    def opened(*_: object, **__: object) -> Iterator[str]:
        try:
            yield "place"
        finally:
            back.append("place")

    @contextlib.asynccontextmanager
    async def cloned(*_: object) -> AsyncIterator[str]:
        yield "pod"
        back.append("pod")

    monkeypatch.setattr(place, "opened", opened)
    monkeypatch.setattr(pod, "cloned", cloned)
    return Bench(Setting(str(tmp_path), str(tmp_path), "kvm"), (), "pod"), back


@pytest.mark.parametrize("first", ["runner", "place"])
def test_shared_pods_end_while_their_place_is_there(given: tuple[Bench, list[str]], first: str) -> None:
    held, back = given
    getattr(held, first)
    held.shared(Link.VSOCK)
    held.close()
    assert back == ["pod", "place"]


def test_a_shared_pod_that_ends_badly_takes_nothing_else_along(
    given: tuple[Bench, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, back = given

    def fail() -> Any:
        raise RuntimeError("the pod")

    held.shared(Link.VSOCK)
    monkeypatch.setattr(held, "end_shared", fail)
    with pytest.raises(RuntimeError, match="the pod"):
        held.close()
    assert back == ["place"]


def test_tests_of_one_name_have_folders_of_their_own() -> None:
    one, other = (fixtures._folder_name(f"tests/vm/test_{word}.py::test_it[a/b-1]") for word in ("a", "b"))
    assert (one, other) == ("tests-vm-test_a.py-test_it-a-b-1", "tests-vm-test_b.py-test_it-a-b-1")
    long = fixtures._folder_name(f"test_a.py::test_it[{'ü' * 300}]")
    assert len(long.encode()) <= 255
