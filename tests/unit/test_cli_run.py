"""`vsock-harness run`: what pytest is called with, and which paths there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import run
from harness.cli.main import main
from harness.model.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the process became, without becoming it."""
    seen: list[str] = []

    def become(program: str, argv: list[str]) -> None:
        seen.extend(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios").mkdir()
    for name in ("one", "two"):
        (tmp_path / f"scenarios/{name}.yaml").touch()
    return seen


def arguments(called: list[str]) -> list[str]:
    assert called[:4] == [sys.executable, "-P", "-m", "pytest"]
    return called[4:]


def test_nothing_given(called: list[str]) -> None:
    main(["run"])
    assert arguments(called) == ["-v", "--host", "auto", "scenarios"]


def test_everything_given(called: list[str]) -> None:
    words = "scenarios/one.yaml --link vsock -x --link isa-serial,virtconsole -n 2 -k a --strict --boot cold"
    more = (
        "--results out --lab-memory 2048 --lab-kernel forky --guest pod-forky --host lab --with-image debian"
    )
    main(["run", *words.split(), *more.split(), "-q", "scenarios/two.yaml::vsock", "--", "--lf", "-n", "3"])
    wanted = "-q --host lab --link vsock --link isa-serial,virtconsole -n 2 -k a --boot cold --strict-host"
    wanted += " --results out --lab-memory 2048 --lab-kernel forky --guest pod-forky --with-image debian"
    wanted += " -x --lf -n 3"
    wanted += " scenarios/one.yaml scenarios/two.yaml::vsock"
    assert arguments(called) == wanted.split()


def test_a_proxys_command_line_stays_one_word(called: list[str]) -> None:
    main(["run", "--proxy", "kata-proxy -mux-socket {mux} -listen-socket {listen}"])
    proxy = "--proxy=kata-proxy -mux-socket {mux} -listen-socket {listen}"
    assert arguments(called) == ["-v", "--host", "auto", proxy, "scenarios"]


def test_more_hosts_and_words(called: list[str]) -> None:
    main(["run", "-v", "--host", "ssh://a", "--host", "ssh://b", "--ssh-config", "c"])
    wanted = "-vv --host ssh://a --host ssh://b --ssh-config=c scenarios"
    assert arguments(called) == wanted.split()


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("scenarios/oen.yaml", "did you mean scenarios/one.yaml?"),
        ("two", "did you mean scenarios/two.yaml?"),
        ("scenarios/two.yml", "did you mean scenarios/two.yaml?"),
        ("scenaros", "did you mean scenarios?"),
        ("xyz.yaml", "no such file or folder\n"),
    ],
)
def test_path_that_is_not_there(
    given: str, near: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", given]) == 4
    assert not called
    err = capsys.readouterr().err
    assert err.startswith(f"vsock-harness: error: {given}: no such file or folder")
    assert near in err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "gone.yaml",
            "gone.yaml: a link to one.yaml, which leads to no file\nhint: vsock-harness run --help",
        ),
        ("loop.yaml", "loop.yaml: a link to loop.yaml, which leads to no file"),
        ("gnoe.yaml", "gnoe.yaml: no such file or folder\n"),
        (
            "UP.YAML",
            "UP.YAML: what is run is called NAME.yaml or NAME.yml (a scenario), or NAME.py\n"
            "hint: mv UP.YAML UP.yaml\n",
        ),
        ("good.json", "good.json: what is run is called NAME.yaml"),
        ("scenarios::vsock", "scenarios::vsock: scenarios is a folder; a scenario's link is FILE::LINK"),
    ],
)
def test_what_is_there_and_can_not_be_run_is_told_why(
    given: str, told: str, called: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone.yaml").symlink_to("one.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("UP.YAML", "good.json"):
        (tmp_path / name).touch()
    assert main(["run", given]) == 4
    assert not called
    assert capsys.readouterr().err.startswith(f"vsock-harness: error: {told}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "kvm"], "--host kvm: unknown"),
        (["--host", "lba"], "did you mean 'lab'?"),
        (["--link", "vsock,vsok"], "--link vsok: unknown; did you mean 'vsock'?"),
        (
            ["--link", "vsock,"],
            "--link 'vsock,': a link's name is missing beside the comma\nhint: one of: vsock, ",
        ),
        (["--link", ""], "--link '': names no link\nhint: one of: vsock, "),
        (["--link", " , "], "--link ' , ': names no link\n"),
        (["--host", ""], "--host '': unknown"),
        (["--bogus"], "unknown option --bogus\n"),
    ],
)
def test_wrong_words_are_told_without_pytest(
    words: list[str], told: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 4
    assert not called
    assert told in capsys.readouterr().err


def test_workers_may_be_as_many_as_can_be(called: list[str]) -> None:
    main(["run", "-n", "auto", "--link", "vsock, isa-serial"])
    wanted = ["-v", "--host", "auto", "--link", "vsock, isa-serial", "-n", "auto", "scenarios"]
    assert arguments(called) == wanted


def test_to_list_is_to_collect_quietly(called: list[str]) -> None:
    main(["run", "--list", "-k", "a", "scenarios/one.yaml"])
    wanted = "--collect-only -q --host auto -k a scenarios/one.yaml"
    assert arguments(called) == wanted.split()


def test_checkout_scenarios_are_the_default_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.paths([], tmp_path) == [str(ROOT / "scenarios")]
    monkeypatch.setattr(run, "SHIPPED", tmp_path / "scenarios")
    with pytest.raises(UsageError, match="no scenarios"):
        run.paths([], tmp_path)


def test_pytest_really_takes_them(tmp_path: Path) -> None:
    scenario = ROOT / "scenarios/pod-diagram.yaml"
    argv = [sys.executable, "-c", "from harness.cli.main import entry; entry()", "run", str(scenario)]
    words = ["--link", "vsock", "-n", "1", "-k", "diagram", "--strict", "--lab-memory", "2048", "-x"]
    more = ["--results", str(tmp_path), "--", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run([*argv, *words, *more], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ScenarioItem vsock" in done.stdout
    assert "1/6 tests collected" in done.stdout


def test_typo_in_a_scenario_stops_before_any_vm(tmp_path: Path) -> None:
    broken = (ROOT / "scenarios/pod-diagram.yaml").read_text().replace("links:", "lniks:")
    (tmp_path / "broken.yaml").write_text(broken)
    argv = [sys.executable, "-c", "from harness.cli.main import entry; entry()", "run", "broken.yaml"]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, env=environ)
    assert done.returncode == 4
    assert "ERROR: broken.yaml:" in done.stderr  # as it was named
    assert "did you mean 'links'?" in done.stderr
    assert not (tmp_path / "cache").exists()
