"""What is said of a test that its module does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plugin import nodes

MODULE = """\
import pytest

def helper():
    pass

@pytest.mark.parametrize("n", [1])
def test_one(n):
    pass

async def test_two():
    pass

class TestMore:
    def helper(self):
        pass
    def test_three(self):
        pass

class Other:
    def test_four(self):
        pass
"""

HAS = "test_one, test_two, TestMore, TestMore::test_three"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("test_it.py", []),
        ("test_it.py::test_two", []),
        ("test_it.py::TestMore::test_three", []),
        ("test_it.py::test_tow", [f"test_it.py has no 'test_tow'; it has {HAS}; did you mean 'test_two'?"]),
        ("test_it.py::xyz", [f"test_it.py has no 'xyz'; it has {HAS}"]),
        ("test_it.py::Other::test_four", None),
        (
            "test_it.py::test_one[2]",
            ["test_it.py::test_one has no such case; its cases: --list test_it.py::test_one"],
        ),
        ("test_it.py::test_xyz[a::b]", None),
        ("empty.py::test_one", ["empty.py has no 'test_one'; it has no test"]),
        ("torn.py::test_one", []),
        ("one.yaml::vsock", []),
        ("gone.py::test_one", []),
    ],
)
def test_what_a_module_has(
    argument: str, said: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_it.py").write_text(MODULE)
    (tmp_path / "empty.py").touch()
    (tmp_path / "torn.py").write_text("def test_one(:")
    found = nodes.words([argument], tmp_path)
    if said is None:
        assert f"; it has {HAS}" in found[0]
    else:
        assert found == said
