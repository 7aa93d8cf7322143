"""`doctor --fix` and `doctor --kata`: what is asked, run, looked at again and said. Nothing runs as root."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.cli import doctor as cli
from harness.cli.main import main
from harness.host import doctor, mends
from harness.host.finding import Finding, Step, Verdict
from harness.host.mends import Ran

LOAD = Step(("modprobe", "-i", "vhost_vsock"))
AT_BOOT = Step(("sh", "-c", "echo vhost_vsock > /etc/modules-load.d/x.conf"), "loads it at each boot")
JOIN = Step(("usermod", "-aG", "kvm", "me"), "counts from the next login on")


@dataclass
class Machine:
    """A host whose state the commands change, as the real ones would; `broken` are those that fail.

    `fresh`: the user is in the group at once, as if the login were a new one.
    """

    loaded: bool = False
    member: bool = False
    fresh: bool = False
    broken: tuple[str, ...] = ()
    ran: list[str] = field(default_factory=list)
    terminals: set[bool] = field(default_factory=set)

    def run(self, step: Step, *, terminal: bool) -> Ran:
        self.ran.append(step.argv[0])
        self.terminals.add(terminal)
        if step.argv[0] in self.broken:
            return Ran(1, "modprobe: FATAL: Module vhost_vsock not found\nin directory /lib/modules")
        self.loaded |= step.argv[0] == "modprobe"
        self.member |= step.argv[0] == "usermod"
        return Ran(0, "")

    def vhost(self) -> Finding:
        if not self.loaded:
            seen = "there is no such device node"
            mend = "sudo modprobe -i vhost_vsock"
            return Finding("vhost-vsock", Verdict.MISSING, seen, "local", mend, (LOAD, AT_BOOT))
        return self.denied("vhost-vsock")

    def denied(self, ability: str) -> Finding:
        if self.member and self.fresh:
            return Finding(ability, Verdict.OK, "opens", "local")
        if self.member:
            return Finding(ability, Verdict.DENIED, "this login is older", "local", "newgrp kvm")
        mend = "sudo usermod -aG kvm me  # then log in again"
        return Finding(ability, Verdict.DENIED, "its permissions deny it", "local", mend, (JOIN,))


@dataclass(frozen=True)
class Looks:
    ability: str
    look: Callable[[], Finding]


def probes(machine: Machine) -> list[Looks]:
    kernel = Finding("kernel", Verdict.OK, "Linux 6.1", "local")
    memory = Finding("memory-lab", Verdict.MISSING, "1 MiB free", "lab")
    tools = Finding("image-tools", Verdict.MISSING, "not installed: x", "images", "sudo apt-get install x")
    return [
        Looks("kernel", lambda: kernel),
        Looks("vhost-vsock", machine.vhost),
        Looks("kvm", lambda: machine.denied("kvm")),
        Looks("memory-lab", lambda: memory),
        Looks("image-tools", lambda: tools),
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "all_probes", lambda *args, **kwargs: probes(made))
    monkeypatch.setattr(mends, "run", made.run)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return made


def test_all_is_run_with_yes(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--fix", "--yes"]) == 1  # kvm is still denied to this login
    out = capsys.readouterr().out
    assert machine.ran == ["modprobe", "sh", "usermod"]
    assert machine.terminals == {False}
    assert "run it?" not in out
    told = [line for line in out.split("image-tools", 1)[1].splitlines() if line.strip()]
    wanted = [
        "vhost-vsock is missing: there is no such device node",
        "  sudo modprobe -i vhost_vsock",
        "  vhost-vsock: missing -> denied: its permissions deny it",
        "  sudo sh -c 'echo vhost_vsock > /etc/modules-load.d/x.conf'  # loads it at each boot",
        "  vhost-vsock: still denied: its permissions deny it",
        "vhost-vsock is denied: its permissions deny it",
        "  sudo usermod -aG kvm me  # counts from the next login on",
        "  vhost-vsock: still denied: this login is older",
        "left to you:",
        "  vhost-vsock: newgrp kvm",
        "  kvm: newgrp kvm",
        "  image-tools: sudo apt-get install x",
    ]
    assert [line for line in told if line in wanted] == wanted


@pytest.mark.parametrize(
    ("answers", "ran"),
    [
        ("y\ny\ny\n", ["modprobe", "sh", "usermod"]),
        ("yes\nn\nY\n", ["modprobe", "usermod"]),
        ("y\n", ["modprobe"]),  # the end of the input is a no
        ("\nn\n", []),  # Enter is a no; without the module nothing is written for the next boot
        ("n\ny\n", ["usermod"]),
        ("x\nq\n", []),
    ],
)
def test_each_is_asked_for(
    machine: Machine,
    answers: str,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answers))
    main(["doctor", "--fix"])
    assert machine.ran == ran
    assert machine.terminals <= {True}
    out = capsys.readouterr().out
    # what two findings want is asked once; the module's second step only after its first
    assert out.count("run it? [y/N] ") == (3 if "modprobe" in ran else 2)
    assert ("  not run\n" in out) == (len(ran) < 3)


def test_without_a_terminal_nothing_is_looked_at_or_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*args: object, **rest: object) -> None:
        raise AssertionError

    monkeypatch.setattr(doctor, "all_probes", never)
    assert main(["doctor", "--fix"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "there is no terminal to ask at; nothing was done" in err
    assert "--fix --yes" in err
    assert not machine.ran


def test_a_command_that_fails_shows_what_it_said(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.broken = ("modprobe",)
    assert main(["doctor", "--fix", "--yes"]) == 1
    out = capsys.readouterr().out
    assert machine.ran == ["modprobe", "usermod"]  # nothing for the next boot
    assert "    modprobe: FATAL: Module vhost_vsock not found\n    in directory /lib/modules\n" in out
    assert "  failed with exit code 1\n  vhost-vsock: still missing" in out
    assert "  vhost-vsock: sudo modprobe -i vhost_vsock\n" in out.split("left to you:")[1]


def test_nothing_safe_to_run(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.loaded = machine.member = True
    main(["doctor", "--fix", "--yes"])
    out = capsys.readouterr().out
    assert not machine.ran
    assert (
        "nothing is wrong that a safe command would mend\n\nleft to you:\n  vhost-vsock: newgrp kvm\n" in out
    )


def test_the_exit_code_is_of_what_is_so_afterwards(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fresh = True
    assert main(["doctor"]) == 1
    assert main(["doctor", "--fix", "--yes"]) == 0
    out = capsys.readouterr().out
    # one step may mend several
    assert "  vhost-vsock: denied -> ok: opens\n  kvm: denied -> ok: opens\n" in out
    assert "host local: works" in out
    assert main(["doctor"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--yes"], "--fix was not given"),
        (["--fix", "--json"], "not allowed with argument"),
        (["--kata-version", "1.12.0"], "--kata was not given"),
        (["--kata", "--kata-version", "x"], "'x': a version such as 1.12.0 or 3.2 is allowed"),
        (["--kata", "/nowhere/at.toml"], "--kata /nowhere/at.toml: there is no such file"),
        (["--kata", "--fresh"], "--kata does not look at"),
        (["--kata", "--fix"], "there is no terminal"),
    ],
)
def test_options_that_make_no_sense(
    machine: Machine, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *argv]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err


# --kata


def kata(tmp_path: Path, switch: str) -> Path:
    path = tmp_path / "configuration.toml"
    path.write_text(f"[hypervisor.qemu]\npath = 'x'\n{switch}\n[proxy.kata]\n")
    return path


@pytest.mark.parametrize(("switch", "code"), [("use_vsock = true", 0), ("#use_vsock = true", 1)])
def test_kata_in_the_table(
    machine: Machine, tmp_path: Path, switch: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kata(tmp_path, switch)
    assert main(["doctor", "--kata", str(path), "--kata-version", "v1.12.0", "--file-only"]) == code
    out = capsys.readouterr().out
    seen = " ".join(out.split())  # it is wrapped
    assert "Kata Containers 1.12.0 (--kata-version)" in seen
    assert f"{path}:3: use_vsock" in seen
    assert ("mend: " in out) == bool(code)
    assert ("file: as it should be; this host was not looked at" in out) == (not code)
    assert "memory" not in out


def test_kata_as_json(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(kata(tmp_path, "use_vsock = false"))
    assert main(["doctor", "--json", "--kata", file, "--file-only"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["findings"]
    verdicts = {row["ability"]: row["verdict"] for row in data["findings"]}
    assert verdicts == {"kata-version": "ok", "kata-config": "ok", "kata-qemu": "missing", "kata-proxy": "ok"}


@pytest.mark.parametrize("named", [False, True])
def test_kata_is_looked_at_with_what_it_needs_of_this_host(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    named: bool,
) -> None:
    """A file that is named, as containerd's users have to, says nothing of whether a pod can start."""
    path = kata(tmp_path, "use_vsock = true")
    monkeypatch.setenv("KATA_CONF_FILE", "/nowhere" if named else str(path))
    words = [str(path)] if named else []
    monkeypatch.setattr(cli, "VhostVsock", lambda: Looks("vhost-vsock", machine.vhost))
    assert main(["doctor", "--kata", *words, "--kata-version", "1.12.0", "--fix", "--yes"]) == 1
    out = capsys.readouterr().out
    rows = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert rows[:4] == ["kernel", "vhost-vsock", "vmci-transport", "kata-version"]
    assert "vhost-vsock: missing -> denied" in out
    assert machine.ran == ["modprobe", "sh", "usermod"]
    path.write_text("[hypervisor.clh]\n")
    assert main(["doctor", "--kata", *words, "--kata-version", "2.0"]) == 0
    out = capsys.readouterr().out
    assert "vhost-vsock " not in out
    assert out.endswith("Kata and vsock: as it should be\n")


def test_file_only_is_about_a_file(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--file-only"], ["--kata", "--file-only"]):
        assert main(["doctor", *words]) == 2
        assert "--file-only is about the FILE" in capsys.readouterr().err
