"""The choice of a host, and the command's output."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import doctor as cli
from harness.host import doctor
from harness.host.doctor import Kind
from harness.host.finding import Finding, Verdict


def findings(**changed: Verdict) -> list[Finding]:
    """All fine, but for what is `changed`."""
    names = [*doctor.NEEDS_LOCAL, "memory-lab", "qemu", "image-tools", "disk"]
    verdicts = {name.replace("_", "-"): verdict for name, verdict in changed.items()}
    return [
        Finding(name, verdicts.get(name, Verdict.OK), f"{name} seen; more", "x", f"mend {name}")
        for name in names
    ]


M = Verdict.MISSING


@pytest.mark.parametrize(
    ("changed", "pods", "vsock"),
    [
        ({}, [], []),
        ({"kvm": Verdict.BROKEN}, [], []),
        ({"vhost_vsock": M, "af_vsock": Verdict.DENIED}, [], ["vhost-vsock", "af-vsock"]),
        ({"memory_local": M}, ["memory-local"], []),
        ({"qemu": M}, [], []),  # its image can be built
        ({"qemu": M, "image_tools": M}, ["image-tools"], []),
    ],
)
def test_pods_run_without_kvm_and_without_vsock(
    changed: dict[str, Verdict], pods: list[str], vsock: list[str]
) -> None:
    by_ability = {finding.ability: finding for finding in findings(**changed)}
    assert [lack.ability for lack in doctor.lacking_pods(by_ability)] == pods
    assert [lack.ability for lack in doctor.lacking_vsock(by_ability)] == vsock


@pytest.mark.parametrize(
    ("changed", "kind", "named"),
    [
        ({}, Kind.LOCAL, ""),
        ({"kvm": Verdict.BROKEN}, Kind.LAB, "kvm broken (kvm seen)"),
        ({"kvm": Verdict.UNKNOWN}, Kind.LAB, "kvm not proven"),
        ({"vhost_vsock": Verdict.DENIED}, Kind.LAB, "vhost-vsock denied"),
        ({"af_vsock": Verdict.DENIED}, Kind.LAB, "af-vsock denied"),
        ({"memory_lab": M}, Kind.LOCAL, ""),
        ({"kvm": M, "memory_lab": M}, Kind.NONE, "memory-lab missing"),
        ({"qemu": M}, Kind.LOCAL, ""),
        ({"image_tools": M}, Kind.LOCAL, ""),
        ({"qemu": M, "image_tools": M}, Kind.NONE, "image-tools missing"),
        ({"qemu": M, "disk": M}, Kind.NONE, "disk missing"),
        ({"setpriv": M}, Kind.NONE, "setpriv missing"),
    ],
)
def test_choice(changed: dict[str, Verdict], kind: Kind, named: str) -> None:
    chosen, reason = doctor.choose(findings(**changed))
    assert chosen is kind
    assert named in reason
    assert "\n" not in reason


def test_table_is_plain_and_keeps_commands_whole() -> None:
    found = Finding("a", Verdict.MISSING, "word " * 40, "x", "sudo " + "y" * 200)
    text = cli.table([found, Finding("longer", Verdict.OK, "s", "x", "unused")], width=80, colour=False)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert f"mend: {found.mend}" in text
    assert "unused" not in text
    assert all(len(line) <= 80 for line in lines if "mend:" not in line)
    assert lines[0].index("word") == lines[-1].index("s")


def test_colour_does_not_move_columns() -> None:
    plain = cli.table(findings(kvm=M), width=100, colour=False)
    painted = cli.table(findings(kvm=M), width=100, colour=True)
    assert "\x1b[31mmissing" in painted
    for code in ("31", "32", "0"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted == plain


def test_closing_names_each_kind() -> None:
    found = findings(kvm=Verdict.BROKEN, qemu=M)
    text = "\n".join(cli.closing(found, doctor.choose(found)))
    assert "host local: no (kvm broken); all links but vsock run all the same: vsock-harness run" in text
    assert "host lab: works, once its images are built" in text
    assert "--host auto takes: lab (no local VMs: kvm broken" in text


@dataclass(frozen=True)
class Fixed:
    """A probe that finds one thing."""

    finding: Finding

    @property
    def ability(self) -> str:
        return self.finding.ability

    def look(self) -> Finding:
        return self.finding


def run(*args: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["doctor", *args])
    return int(parsed.main(parsed))


@pytest.mark.parametrize(("changed", "code"), [({}, 0), ({"kvm": M}, 0), ({"setpriv": M}, 1)])
def test_exit_code(
    changed: dict[str, Verdict],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "all_probes", lambda *args, **kwargs: map(Fixed, findings(**changed)))
    assert run() == code
    assert "--host auto takes:" in capsys.readouterr().out


def test_real_run_as_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = run("--json")
    data = json.loads(capsys.readouterr().out)
    seen = {row["ability"]: row for row in data["findings"]}
    assert {"kernel", "vhost-vsock", "vmci-transport", "af-vsock", "kvm", "qemu", "setpriv", "disk"} <= set(
        seen
    )
    assert all(row["seen"] and row["verdict"] in set(Verdict) for row in seen.values())
    assert seen["kernel"]["verdict"] == "ok"
    assert seen["kvm"]["verdict"] != "ok" or seen["qemu"]["verdict"] == "ok"  # nothing is ok untried
    assert (code == 1) == (data["choice"]["kind"] == "none")
