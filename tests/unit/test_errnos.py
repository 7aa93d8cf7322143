"""Errnos have one name each, the one that scenarios are written with."""

import ast
import errno
from pathlib import Path

import pytest

from harness.agent.errnos import NAMES, errno_name

HARNESS = Path(__file__).parents[2] / "harness"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.ENOTSUP, "EOPNOTSUPP"),
        (errno.EDEADLOCK, "EDEADLK"),
        (errno.EWOULDBLOCK, "EAGAIN"),
        (errno.ECONNRESET, "ECONNRESET"),
        (9999, "errno 9999"),
    ],
)
def test_an_errno_has_the_name_that_manuals_use(number: int, name: str) -> None:
    assert errno_name(OSError(number, "no")) == name


def test_an_error_without_an_errno_is_told_by_its_text() -> None:
    assert errno_name(OSError("timed out")) == "timed out"


def test_each_errno_of_this_system_has_one_name() -> None:
    assert NAMES.keys() == errno.errorcode.keys()
    assert all(getattr(errno, name) == number for number, name in NAMES.items())


def test_nobody_names_an_errno_in_another_way() -> None:
    """`errno.errorcode` says ENOTSUP for EOPNOTSUPP, so an expectation of the latter would never match."""
    used = [
        f"{path.relative_to(HARNESS)}:{node.lineno}"
        for path in HARNESS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "errorcode"
    ]
    assert used == []
