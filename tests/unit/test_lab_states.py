"""Labs in states and with other kernels, without a VM; and what `tests/hosts` expects of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.host.finding import Finding, Verdict
from harness.image import recipe
from harness.image.store import Image
from harness.lab import kept, lab
from harness.lab.keys import Keys
from harness.lab.lab import LabImages, Wish
from harness.lab.state import LINUX, OWN_KERNEL, PARAMETER, State, kernel_image, kernels
from tests.hosts import denied
from tests.hosts.cases import Case, cases, differing
from tests.unit.images import image as unpacked

LAB = recipe.RECIPES / "lab"


def image(root: Path, name: str, *files: str) -> Image:
    path = root / name
    path.mkdir()
    for file in files:
        (path / file).touch()
    return unpacked(path, name, kind="guest", identity=f"{name}-id")


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    images = LabImages(
        qemu=image(tmp_path, "qemu", "tree"),
        lab=image(tmp_path, "lab", "vmlinux", "initrd", "root.erofs"),
        guests=(),
    )
    return Wish(images=images, pair=Keys(user=tmp_path / "user", host=tmp_path / "host"))


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_a_usual_lab_is_told_nothing(wish: Wish) -> None:
    assert PARAMETER not in " ".join(lab.command_line(wish))


@pytest.mark.parametrize("state", [state for state in State if state is not State.LOADED])
def test_a_state_is_a_word_on_the_kernels_command_line(wish: Wish, state: State) -> None:
    argv = lab.command_line(msgspec.structs.replace(wish, state=state))
    assert f"{PARAMETER}={state}" in option(argv, "-append").split()


def test_another_kernel_boots_the_same_root(wish: Wish, tmp_path: Path) -> None:
    other = image(tmp_path, "kernel-x", "vmlinuz", "initrd")
    images = msgspec.structs.replace(wish.images, kernel=other)
    before, after = (
        lab.command_line(msgspec.structs.replace(wish, images=one)) for one in (wish.images, images)
    )
    assert option(after, "-kernel") == str(tmp_path / "kernel-x/vmlinuz")
    assert [word for word in after if word not in before] == [option(after, "-kernel")]
    assert kept.ids(images) == {**kept.ids(wish.images), "kernel-x": "kernel-x-id"}


def test_kernels_are_the_recipes_of_the_kind(tmp_path: Path) -> None:
    others = {name for name in recipe.names() if recipe.load(name).kind == "kernel"}
    assert {kernel_image(name) for name in kernels()} == {None, *others}
    assert kernels()[0] == OWN_KERNEL == recipe.load("lab").suite
    assert LINUX.keys() == set(kernels())


def test_the_lab_acts_on_each_state_and_on_no_other() -> None:
    """In `states` each is a branch; in `rc`, which loads vhost_vsock for some, are none that it lacks."""
    branches = re.findall(r"^([a-z' |-]+)\)", (LAB / "states").read_text(), re.MULTILINE)
    words = {word.strip() for branch in branches for word in branch.split("|")}
    assert words - {"''"} == set(State) - {State.LOADED}
    loading = re.search(r"^('' \| .*)\) modules=\"vhost_vsock", (LAB / "rc").read_text(), re.MULTILINE)
    assert loading is not None
    assert {word.strip() for word in loading[1].split("|")} - {"''"} < set(State)
    for script in ("rc", "states"):
        subprocess.run(["sh", "-n", LAB / script], check=True)


ALL = cases(kernels())


def test_each_state_has_a_case_and_each_case_a_name_of_its_own() -> None:
    assert {case.state for case in ALL} == set(State)
    names = [(case.kernel, case.name) for case in ALL]
    assert len(set(names)) == len(names)
    assert {case.kernel for case in ALL} == set(kernels())


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.kernel}-{case.name}")
def test_a_case_that_is_not_as_expected_is_seen(case: Case) -> None:
    for expected in filter(None, (case.before, case.after)):
        found = {
            one: Finding(one, verdict, f"so: {words}", "local") for one, (verdict, words) in expected.items()
        }
        assert not differing(expected, found)
        for ability, finding in found.items():
            worse = next(verdict for verdict in Verdict if verdict is not finding.verdict)
            for wrong in ({"verdict": worse}, {"seen": "something else"}):
                changed = {**found, ability: msgspec.structs.replace(finding, **wrong)}
                assert len(differing(expected, changed)) == 1
    # what is mended was not fine before, and is afterwards
    assert bool(case.mends) == bool(case.mend) == bool(case.after)
    if case.mends:
        fine = {Verdict.OK, Verdict.NOT_NEEDED}
        assert case.before[case.mends][0] not in fine
        assert case.after[case.mends][0] in fine


ASK = """
import socket
for family in (socket.AF_UNIX, socket.AF_VSOCK):
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error:
        print(family.name, error.errno)
"""


def test_the_filter_denies_af_vsock_alone() -> None:
    argv = [sys.executable, denied.__file__, sys.executable, "-I", "-S", "-c", ASK]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "AF_VSOCK 1\n"
