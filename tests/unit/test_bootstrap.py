"""Setup of a bare checkout; programs and package managers are fakes."""

from __future__ import annotations

import ast
import fcntl
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.fake_programs import BASE, Programs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, of a checkout of its own."""
    checkout = tmp_path / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / ".ci")
    (checkout / "pyproject.toml").write_text("[project]\n")
    (checkout / "requirements-dev.txt").write_text("rich==1 \\\n")
    spec = importlib.util.spec_from_file_location("bootstrap", checkout / ".ci" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    return module


@pytest.fixture
def user(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)


@pytest.fixture
def root(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)


@pytest.fixture
def keyring(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "KEYRING", (str(SCRIPT), "debian-archive-keyring"))


def finished(bootstrap: ModuleType) -> None:
    """A .venv as a setup leaves it."""
    (bootstrap.VENV / "bin").mkdir(parents=True)
    (bootstrap.VENV / "bin" / "python").symlink_to(sys.executable)
    bootstrap.STAMP.write_text(bootstrap.identity(bootstrap.ROOT))


def test_an_old_python_reads_it_and_is_told(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 7))
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap, "VERSION", "3.9")
    assert bootstrap.main([]) == 2
    assert "is Python 3.9; 3.11 or later is needed" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_what_is_missing_is_judged_by_programs_and_files(
    bootstrap: ModuleType, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "KEYRING", ("/nonexistent", "debian-archive-keyring"))
    all_of_them = {
        "mmdebstrap",
        "erofs-utils",
        "zstd",
        "openssh-client",
        "util-linux",
        "debian-archive-keyring",
    }
    assert set(bootstrap.missing_packages(images=True)) == all_of_them
    assert bootstrap.missing_packages(images=False) == []
    programs.add("mmdebstrap", "zstd")
    assert set(bootstrap.missing_packages(images=True)) == all_of_them - {"mmdebstrap", "zstd"}


@pytest.mark.usefixtures("user", "keyring")
def test_without_root_mmdebstrap_needs_uidmap(bootstrap: ModuleType, programs: Programs) -> None:
    programs.add(*bootstrap.PROGRAMS)
    assert bootstrap.missing_packages(images=True) == ["uidmap"]


@pytest.mark.usefixtures("root", "keyring")
def test_elsewhere_than_on_debian_mmdebstrap_needs_gpg(
    bootstrap: ModuleType, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add(*bootstrap.PROGRAMS)
    assert bootstrap.missing_packages(images=True) == []
    monkeypatch.setattr(bootstrap.platform, "freedesktop_os_release", lambda: {"ID": "ubuntu"})
    assert bootstrap.missing_packages(images=True) == ["gpg"]


@pytest.mark.usefixtures("root", "keyring")
def test_debians_python_without_ensurepip(
    bootstrap: ModuleType, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bootstrap.sys, "base_prefix", "/usr")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert bootstrap.missing_packages(images=False) == [f"python{version}-venv"]
    monkeypatch.setattr(bootstrap.sys, "base_prefix", "/opt/python")
    with pytest.raises(bootstrap.Unfit, match="/opt/python lacks ensurepip"):
        bootstrap.missing_packages(images=False)
    finished(bootstrap)
    assert bootstrap.missing_packages(images=False) == []


@pytest.mark.usefixtures("user", "keyring")
@pytest.mark.parametrize("sudo", ["none", "asks for a password"])
def test_without_root_the_one_command_is_printed(
    bootstrap: ModuleType, programs: Programs, capsys: pytest.CaptureFixture[str], sudo: str
) -> None:
    programs.add("apt-get", "ssh", "setpriv", "zstd", "newuidmap")
    if sudo != "none":
        programs.add("sudo", body="exit 1")
    assert bootstrap.main(["--images"]) == 2
    packages = "install -y --no-install-recommends erofs-utils mmdebstrap"
    before = "" if sudo == "none" else "sudo "
    assert (
        capsys.readouterr().err.splitlines()[-1] == f"  {before}apt-get update && {before}apt-get {packages}"
    )
    assert [call for call in programs.calls if call.startswith("apt-get")] == []
    assert not bootstrap.VENV.exists()


@pytest.mark.usefixtures("root", "keyring")
def test_no_apt_get(bootstrap: ModuleType, programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["--images"]) == 2
    assert "no apt-get. Install what these Debian packages have" in capsys.readouterr().err


@pytest.mark.usefixtures("user", "keyring")
@pytest.mark.parametrize("update", [0, 100])
def test_sudo_installs_what_is_missing_and_no_more(
    bootstrap: ModuleType, programs: Programs, update: int
) -> None:
    others = [name for name in bootstrap.PROGRAMS if name != "zstd"]
    programs.add("newuidmap", *others)
    programs.add("sudo", body=f'shift; [ "$1" = true ] || PATH="$PATH:{BASE}" exec "$@"')
    made = f'printf "#!/bin/sh\\n" > {programs.folder}/zstd; chmod 755 {programs.folder}/zstd'
    programs.add("apt-get", body=f'case "$*" in *update) exit {update};; esac; {made}')
    finished(bootstrap)
    assert bootstrap.main(["--images"]) == 0
    installs = [call for call in programs.calls if call.startswith("apt-get") and "install" in call]
    assert [call.partition("install ")[2] for call in installs] == ["-y --no-install-recommends zstd"]
    before = len(programs.calls)
    assert bootstrap.main(["--images"]) == 0
    assert len(programs.calls) == before


@pytest.mark.usefixtures("root", "keyring")
def test_a_failing_step_shows_its_end(
    bootstrap: ModuleType, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.add("env", body='shift; exec "$@"')
    programs.add(
        "apt-get", body='for n in 1 2 3; do echo "line $n"; done; echo "E: no such thing" >&2; exit 100'
    )
    assert bootstrap.main(["--images"]) == 1
    error = capsys.readouterr().err
    assert "  line 3\n  E: no such thing\n" in error
    assert error.splitlines()[-1].startswith("setup stopped at: Debian packages: installing")


@pytest.mark.usefixtures("root", "keyring")
def test_packages_that_do_not_bring_the_program(
    bootstrap: ModuleType, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.add("env", "apt-get")
    assert bootstrap.main(["--images"]) == 2
    assert "is not found (PATH?): erofs-utils mmdebstrap" in capsys.readouterr().err


def steps_of(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, fail: str = "") -> list[list[str]]:
    """Record the steps in place of running them; the one whose command has the word `fail` fails."""
    made: list[list[str]] = []

    def step(what: str, argv: list[str]) -> None:
        made.append(argv)
        if fail and fail in argv:
            raise bootstrap.StepFailed(what)
        if "venv" in argv and not bootstrap.VENV.exists():
            (bootstrap.VENV / "bin").mkdir(parents=True)
            (bootstrap.VENV / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(bootstrap, "step", step)
    return made


def test_venv_is_made_of_pins_alone_and_once(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = steps_of(bootstrap, monkeypatch)
    assert bootstrap.main([]) == 0
    venv, pinned, project = made
    assert venv[1:] == ["-m", "venv", "--clear", str(bootstrap.VENV)]
    assert "--require-hashes" in pinned
    assert "--only-binary=:all:" in pinned
    assert {"--no-deps", "--no-build-isolation", "--no-index"} <= set(project)
    assert bootstrap.main([]) == 0
    assert len(made) == 3


@pytest.mark.parametrize("changed", ["requirements-dev.txt", "pyproject.toml", ".ci/bootstrap.py"])
def test_venv_is_made_again_when_its_sources_change(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    finished(bootstrap)
    made = steps_of(bootstrap, monkeypatch)
    assert bootstrap.main([]) == 0
    assert made == []
    with (bootstrap.ROOT / changed).open("a") as file:
        file.write("# changed\n")
    assert bootstrap.main([]) == 0
    assert len(made) == 3


def test_venv_is_made_again_when_the_checkout_moved_or_python_went(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    assert bootstrap.identity(bootstrap.ROOT) != bootstrap.identity(
        shutil.copytree(bootstrap.ROOT, tmp_path / "b")
    )
    finished(bootstrap)
    assert bootstrap.complete()
    (bootstrap.VENV / "bin" / "python").unlink()
    (bootstrap.VENV / "bin" / "python").symlink_to("/nonexistent/python3")
    assert not bootstrap.complete()


@pytest.mark.parametrize("fail", ["venv", "--require-hashes", "-e"])
def test_a_setup_that_stops_half_way_is_not_taken_for_a_finished_one(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, fail: str
) -> None:
    finished(bootstrap)
    (bootstrap.ROOT / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    steps_of(bootstrap, monkeypatch, fail)
    assert bootstrap.main([]) == 1
    assert not bootstrap.STAMP.exists()
    made = steps_of(bootstrap, monkeypatch)
    assert bootstrap.main([]) == 0
    assert len(made) == 3


def test_a_steps_python_does_not_see_the_callers_paths(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("KEPT", "yes")
    bootstrap.step("asking", ["/bin/sh", "-c", 'test -z "$PYTHONPATH" && test "$KEPT" = yes'])
    first, second = capsys.readouterr().err.splitlines()
    assert first == "asking ..."
    assert second.startswith("asking: done in 0.")


def test_two_setups_of_a_checkout_wait_for_each_other(bootstrap: ModuleType) -> None:
    finished(bootstrap)
    bootstrap.STAMP.write_text("of something else")
    script = bootstrap.ROOT / ".ci" / "bootstrap.py"
    with script.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "waiting for another setup of this checkout\n"
            # the first one finishes
            bootstrap.STAMP.write_text(bootstrap.identity(bootstrap.ROOT))
            held.close()
            assert second.stderr.read() == ""
    assert second.returncode == 0


def test_a_venv_of_another_checkout_stays(bootstrap: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").touch()
    bootstrap.VENV.symlink_to(other)
    with pytest.raises(bootstrap.Unfit, match=f"a link, to {other},"):
        bootstrap.make_venv()
    assert (other / "theirs").exists()
