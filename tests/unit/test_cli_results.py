"""`vsock-harness results`: which runs there are, and which of them may be removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli.main import main
from harness.model.errors import UsageError
from harness.report import folders, results
from harness.report.results import Case, CaseOutcome, Run

PASSED = Case(id="a.yaml::vsock", outcome=CaseOutcome.PASSED)
FAILED = Case(id="b.yaml::vsock", outcome=CaseOutcome.FAILED)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs, the second without an end; `latest` leads to the newest; and three things of the user's."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    for day in range(1, 5):
        path = folder / f"2026010{day}-000000-ab0{day}"
        path.mkdir(parents=True)
        (path / "versions.json").write_text("{}")
        if day != 2:
            results.write(path, Run(cases=(PASSED, FAILED, PASSED)))
    (folder / "latest").symlink_to("20260104-000000-ab04")
    (folder / "20260101-000000-ab01-the-flaky-one").mkdir()
    (folder / "20250101-000000-ffff").symlink_to("20260101-000000-ab01")
    (folder / "bench.json").write_text("{}")
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name[9:] or path.name for path in folder.glob("*-ab0?"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        code = main(["results", *words])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_runs_are_listed_the_newest_first(runs: Path, said: Callable[..., tuple[int, str]]) -> None:
    code, out = said()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        f"results/2026010{day}-000000-ab0{day}" for day in (4, 3, 2, 1)
    ]
    assert out.splitlines()[0].endswith("2 passed, 1 failed")
    assert out.splitlines()[2].endswith("no end was written")
    assert said("list", str(runs))[1].count("\n") == 4


def age(path: Path, days: float) -> None:
    for one in [*path.rglob("*"), path]:
        then = one.stat().st_mtime - days * 86400
        os.utime(one, (then, then))


@pytest.mark.parametrize(
    ("keep", "old", "stays"),
    [
        ("1", True, ["ab04"]),
        ("1", False, ["ab02", "ab04"]),  # it may go on
        ("3", True, ["ab02", "ab03", "ab04"]),
        ("9", True, ["ab01", "ab02", "ab03", "ab04"]),
    ],
)
def test_the_newest_stay_and_a_run_that_may_go_on(
    runs: Path, said: Callable[..., tuple[int, str]], keep: str, old: bool, stays: list[str]
) -> None:
    if old:
        age(runs / "20260102-000000-ab02", 1.1)
    before = sorted(runs.iterdir())
    code, would = said("prune", "--keep", keep, "--dry-run")
    assert code == 0
    assert sorted(runs.iterdir()) == before
    code, did = said("prune", "--keep", keep)
    assert code == 0
    assert did == would.replace("would remove", "removed")
    assert [name[-4:] for name in left(runs)] == stays
    others = ("20260101-000000-ab01-the-flaky-one", "20250101-000000-ffff", "bench.json", "latest")
    assert all((runs / name).is_symlink() or (runs / name).exists() for name in others)


def test_what_latest_leads_to_stays(runs: Path, said: Callable[..., tuple[int, str]]) -> None:
    (runs / "latest").unlink()
    (runs / "latest").symlink_to("20260101-000000-ab01")
    age(runs / "20260102-000000-ab02", 2)
    said("prune", "--keep", "1")
    assert [name[-4:] for name in left(runs)] == ["ab01", "ab04"]


def test_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = said("prune")
    assert code == 2
    assert "results: no such folder\nhint: vsock-harness run makes it" in out
    (tmp_path / "results").mkdir()
    assert said() == (0, "no run in results\n")
    assert said("prune") == (0, "nothing to remove\n")


def test_a_runs_folder_is_one_of_them(tmp_path: Path) -> None:
    made = folders.new(tmp_path)
    assert (tmp_path / "latest").resolve() == made.resolve()
    assert [past.path for past in folders.runs(tmp_path)] == [made]
    assert folders.older(tmp_path, 0) == []


def test_another_folder_is_told_where_runs_are(runs: Path, said: Callable[..., tuple[int, str]]) -> None:
    (runs / "kernels").mkdir()
    (runs.parent / "else").mkdir()
    assert said("list", ".") == (0, "no run in .; there are some in results\n")
    assert said("prune", ".") == (0, "no run in .; there are some in results\n")
    assert said("list", "results/kernels") == (0, "no run in results/kernels\n")
    assert said("prune", "else") == (0, "nothing to remove\n")


def test_the_folder_of_one_run_is_none_of_runs(runs: Path, said: Callable[..., tuple[int, str]]) -> None:
    code, out = said("list", "results/20260102-000000-ab02")
    assert (code, out.splitlines()[0]) == (
        2,
        "vsock-harness: error: results/20260102-000000-ab02: the folder of one run, not of runs",
    )
    assert str(runs) in out
    assert said("prune", "results/latest")[0] == 2
    assert said("list", "results/bench.json")[1].startswith("vsock-harness: error: results/bench.json: not a")


@pytest.mark.parametrize(
    ("blocks", "why"), [(1, "4 KiB are free"), (OSError(28, "No space left"), "No space left")]
)
def test_a_folder_that_has_no_room_is_told_at_once(
    blocks: int | OSError, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = folders.new(tmp_path)

    def statvfs(path: Path) -> SimpleNamespace:
        if isinstance(blocks, OSError):
            raise blocks
        return SimpleNamespace(f_blocks=9, f_bavail=blocks, f_frsize=4096)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(UsageError, match=f"nothing can be written to {tmp_path}: {why}") as told:
        folders.new(tmp_path)
    assert "--results DIR" in told.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([latest.name, "latest"])
    assert (tmp_path / "latest").resolve() == latest


def test_a_folder_that_does_not_say_how_large_it_is_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE gives zeros for what is not told."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=0, f_bavail=0, f_frsize=0))
    assert folders.new(tmp_path).is_dir()
