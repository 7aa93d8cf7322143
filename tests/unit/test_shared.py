"""Pods that items use one after the other: which are made, for whom, and when they end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import textwrap
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.errors import SystemFailure
from harness.model.link import Link
from harness.run import pod
from harness.run.shared import Shared
from tests.unit.test_report_run import made, run, written
from tests.unit.traces import SCENARIOS


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to pods: a folder's name when one is made in it, and when it ends."""
    said: list[str] = []

    def begin(folder: Path, links: Iterable[Link]) -> None:
        folder.mkdir()
        said.append(f"{folder.name} for {','.join(links)}")

    @contextlib.asynccontextmanager
    async def cloned(place: Any, links: Iterable[Link], folder: Path) -> AsyncIterator[Any]:
        begin(folder, links)
        yield SimpleNamespace(folder=folder)
        said.append(f"{folder.name} ends")

    monkeypatch.setattr(pod, "cloned", cloned)
    return said


def shared(folder: Path) -> Shared:
    place: Any = None
    return Shared(place, folder, "shared-gw0")


def test_who_asks_again_gets_the_same(tmp_path: Path, told: list[str]) -> None:
    async def asked() -> None:
        pods = shared(tmp_path)
        assert await pods.pod(Link.VSOCK) is await pods.pod(Link.VSOCK)
        await pods.close()

    asyncio.run(asked())
    assert told == ["shared-gw0-vsock for vsock", "shared-gw0-vsock ends"]


def test_any_has_the_serial_ports_but_a_proxy_only_its_own(tmp_path: Path, told: list[str]) -> None:
    async def asked() -> None:
        pods = shared(tmp_path)
        for link in (Link.VSOCK, Link.VIRTIO_SERIAL, Link.ISA_SERIAL, Link.SERIAL_PROXY, Link.HYBRID_VSOCK):
            await pods.pod(link)

    asyncio.run(asked())
    made = [word.split(" for ")[1] for word in told if "for" in word]
    assert made == [Link.VSOCK, Link.SERIAL_PROXY, Link.HYBRID_VSOCK]


def test_after_an_end_there_are_new_ones_in_folders_of_their_own(tmp_path: Path, told: list[str]) -> None:
    async def asked() -> None:
        for _ in range(2):
            pods = shared(tmp_path)
            await pods.pod(Link.VIRTIO_SERIAL)
            await pods.close()
            await pods.close()

    asyncio.run(asked())
    names = ["shared-gw0-virtio-serial", "shared-gw0-virtio-serial-2"]
    assert told == [f"{name} {word}" for name in names for word in ("for virtio-serial", "ends")]


def test_what_is_wrong_with_one_is_said_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.asynccontextmanager
    async def cloned(*_: object) -> AsyncIterator[Any]:
        yield SimpleNamespace()
        raise SystemFailure("QEMU had to be killed")

    monkeypatch.setattr(pod, "cloned", cloned)

    async def asked() -> None:
        pods = shared(tmp_path)
        await pods.pod(Link.VSOCK)
        await pods.close()

    with pytest.raises(SystemFailure):
        asyncio.run(asked())


BAD_END = """
    from harness.model.errors import SystemFailure
    from harness.run import shared

    async def close(self):
        raise SystemFailure("it had to be killed")

    shared.Shared.close = close
"""

FAULTS = ("reliability-guest-panic", "reliability-paused", "reliability-qemu-killed")
"""Two that take long, and so come first, and one that does not."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made(tmp_path)
    for name in FAULTS:
        shutil.copyfile(SCENARIOS / f"{name}.yaml", tmp_path / f"scenarios/{name}.yaml")
    return tmp_path


def of_vsock(project: Path, behaviour: str = "right") -> tuple[int, str, list[str]]:
    """A run of these: exit code, what was said, the folders of shared pods."""
    code, said = run(
        project, {"vsock": behaviour}, "scenarios", "-k", "reliability or pods", "--link", "vsock"
    )
    return code, said, sorted(path.name for path in (project / "results/latest").glob("shared*"))


@pytest.mark.slow
def test_items_share_the_pod_beside_theirs(project: Path) -> None:
    code, said, folders = of_vsock(project)
    assert code == 0, said
    assert folders == ["shared-vsock"]


@pytest.mark.slow
def test_it_is_gone_while_a_test_has_pods_of_its_own(project: Path) -> None:
    text = """
        from pathlib import Path

        def test_pods(pods, pytestconfig):
            assert pods.place
            assert (Path("results/latest/shared-vsock/ended")).exists()
    """
    (project / "scenarios/test_between.py").write_text(textwrap.dedent(text))
    code, said, folders = of_vsock(project)
    assert code == 0, said
    assert folders == ["shared-vsock", "shared-vsock-2"]


@pytest.mark.slow
def test_after_a_failure_there_is_another(project: Path) -> None:
    code, _, folders = of_vsock(project, "crashed")
    assert code == 1
    assert folders == ["shared-vsock", "shared-vsock-2", "shared-vsock-3"]


@pytest.mark.slow
def test_what_is_wrong_with_its_end_is_an_error_of_the_last_item(project: Path) -> None:
    (project / "conftest.py").write_text(textwrap.dedent(BAD_END))
    code, said, _ = of_vsock(project)
    assert code == 1
    found = written(project).run
    assert found is not None
    cases = {case.id.split("/")[-1]: case for case in found.cases}
    assert "it had to be killed" in cases["reliability-qemu-killed.yaml::vsock"].told
    assert "3 passed" in said
    assert "1 error" in said
