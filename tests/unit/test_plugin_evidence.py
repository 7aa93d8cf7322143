"""Evidence travels with an item's last report."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.host import archive
from harness.plugin import evidence
from tests.unit.rerunning import Project
from tests.unit.test_report_run import made, run


def test_what_is_packed_is_laid_out_again(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "item/pod-1").mkdir(parents=True)
    here.mkdir()
    (there / "item/trace.jsonl").write_text("{}\n")
    (there / "item/pod-1/console.log").write_bytes(b"\0Linux")
    (there / "other").mkdir()
    archive.unpack(archive.packed(there / "item", "item"), here)
    found = {str(path.relative_to(here)): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert found == {"item/trace.jsonl": b"{}\n", "item/pod-1/console.log": b"\0Linux"}


@pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Debian 12's Python has no filter of archives"
)
def test_nothing_gets_out_of_the_results_folder(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    (tmp_path / "results").mkdir()
    with pytest.raises(tarfile.TarError):
        archive.unpack(out.getvalue(), tmp_path / "results")
    assert not (tmp_path / "outside").exists()


def test_what_can_not_be_written_is_said_and_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "item").mkdir()
    notes: list[str] = []
    data = archive.packed(tmp_path / "item", "item")
    report = SimpleNamespace(nodeid="x::vsock", outcome="passed", vsock_harness_evidence=data)
    (tmp_path / "file").touch()
    evidence.Unpacking(tmp_path / "file", notes).pytest_runtest_logreport(report)
    assert len(notes) == 1
    assert notes[0].startswith("x::vsock: its evidence is lost: ")


@pytest.mark.slow
@pytest.mark.parametrize("most", [1 << 20, 10])
def test_it_comes_home_before_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("FAKE_ELSEWHERE", str(elsewhere))
    project = made(tmp_path)
    (project / "conftest.py").write_text(f"from harness.plugin import evidence\n\nevidence.MOST = {most}\n")
    code, said = run(project, {"isa-serial": "served"}, "scenarios", "-n", "1")
    assert code == 1, said
    assert "hint: evidence: home/multiple-clients-8-isa-serial/trace.jsonl" in said
    items = {f"multiple-clients-8-{link}" for link in ("vsock", "virtio-serial", "virtconsole", "isa-serial")}
    home = {path.parent.name for path in (project / "results/latest").glob("*/trace.jsonl")}
    left = {path.parent.name for path in elsewhere.glob("*/trace.jsonl")}
    assert (home, left) == ((items, set()) if most > 10 else (set(), items))


PACKING = """
import pytest
from harness.host.archive import packed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        folder = STATE / f"evidence-{here()}-{tries('evidence')}" / "item"
        folder.mkdir(parents=True)
        (folder / "trace").write_text(folder.parent.name)
        report.vsock_harness_evidence = packed(folder, item.name)
    return report
"""

UNPACKING = """
from pathlib import Path

from harness.plugin.evidence import Unpacking


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Unpacking(Path("home"), []))
"""


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_try_that_does_not_count_has_its_evidence_at_home_too(tmp_path: Path, again: bool) -> None:
    project = Project(tmp_path)
    (tmp_path / "home").mkdir()
    body = f"def test_a():\n    if {again} or tries('a') == 1:\n        oops()\n        pytest.fail('odd')\n"
    project.write(body)
    hosts = (tmp_path / "hosts.py").read_text()
    (tmp_path / "hosts.py").write_text(hosts + UNPACKING)
    (tmp_path / "conftest.py").write_text("from trying import *\n" + PACKING)
    done = project.run(hosts="one")
    assert done.counts == ("1 error, 1 rerun" if again else "1 passed, 1 rerun")
    found = {str(path.relative_to(tmp_path / "home")): path for path in (tmp_path / "home").rglob("trace")}
    assert {name: path.read_text() for name, path in found.items()} == {
        "reruns/test_a/trace": "evidence-one-1",
        "test_a/trace": "evidence-one-2",
    }
