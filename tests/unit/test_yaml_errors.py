"""What is no YAML, no file, or torn, is a clean error; what is YAML is read as version 1.2."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model import yaml
from harness.model.document import nearest
from harness.model.errors import UsageError
from harness.model.scenario import load
from tests.unit.mistakes import FLAT, mistakes
from tests.unit.traces import SCENARIOS

SYNTAX: list[tuple[str | bytes, str]] = [
    ("", "1:1: the file is empty"),
    ("# nothing\n", "1:1: the file is empty"),
    ("- a\n- b\n", "1:1: a scenario must be a mapping, not a list"),
    ("just text\n", "1:1: a scenario must be a mapping, not 'just text'"),
    (
        "title: a: b\n",
        "1:9: not YAML: mapping values are not allowed here: text that has ': ' in it must be in quotes",
    ),
    (
        "title: @x\n",
        "1:8: not YAML: while scanning for the next token found character '@' that cannot start any token: "
        "text that begins with it must be in quotes",
    ),
    (
        "links: [vsock,\n",
        "2:1: not YAML: while parsing a flow node expected the node content, but found '<stream end>'",
    ),
    (
        "title: x\n\tclaim: y\n",
        "2:1: not YAML: while scanning for the next token found character '\\t' that cannot start any token: "
        "indent with spaces, not with tabs",
    ),
    (
        "title: 'x\n",
        "2:1: not YAML: while scanning a quoted scalar found unexpected end of stream",
    ),
    (
        "a: 1\n---\nb: 2\n",
        "2:1: not YAML: expected a single document in the stream but found another document",
    ),
    ("title: x\ntitle: y\n", "2:1: key 'title' stands here a second time; first in line 1"),
    ("expect: {vsock: 1, vsock: 2}\n", "1:20: key 'vsock' stands here a second time; first in line 1"),
    ("title: &t x\nabout: *t\n", "1:8: anchors and aliases (&t) are not used here; write it out"),
    ("title: !!binary eA==\n", "1:8: tags (!!binary) are not used here"),
    ("? [a]\n: b\n", "1:3: a key must be a word"),
    ("title: \u00fc\a\n", "1:9: character U+0007 is not allowed in YAML"),
    ('title: "\\ud800"\n', "1:8: text with a NUL or half a surrogate pair cannot be passed on"),
    ('title: "a\\0"\n', "1:8: text with a NUL or half a surrogate pair cannot be passed on"),
    ("clients: ._\n", "1:10: '._' is not a number"),
    ("clients: " + "9" * 5000, f"1:10: '{'9' * 40}'… (5000 characters) is not a number"),
    ("title: \u00fcber\nabout: x".encode("latin-1"), "1:8: byte 0xfc is not UTF-8"),
    ("title: über\nabout: ".encode() + b"\xff", "2:8: byte 0xff is not UTF-8"),
    ("title: x".encode("utf-16"), "1:1: byte 0xff is not UTF-8"),
    ("title: " + "[" * 3000, " nested too deeply"),
]


@pytest.mark.parametrize(("text", "says"), SYNTAX, ids=[says[:30] for _, says in SYNTAX])
def test_syntax(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert mistakes(tmp_path, text) == [says]


def test_all_mistakes_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = (
        FLAT.replace("claim: multiple-clients", "claim: none").replace("1MiB", "1MB").replace("[vsock", "[v")
    )
    lines = mistakes(tmp_path, text)
    assert [line.split(": ")[0] for line in lines] == ["2:8", "3:9", "6:19"]


def test_a_misspelt_required_key_is_one_mistake(tmp_path: Path) -> None:
    assert len(mistakes(tmp_path, FLAT.replace("expect:", "expects:"))) == 1


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (yaml.MAX_BYTES + 1))
    for name, says in [
        ("", "not a regular file"),
        ("fifo", "not a regular file"),
        ("missing", "cannot be read: No such file or directory"),
        ("large", f"{yaml.MAX_BYTES + 1} bytes; a scenario file has at most {yaml.MAX_BYTES}"),
    ]:
        with pytest.raises(UsageError) as caught:
            load(tmp_path / name)
        assert caught.value.summary == f"{tmp_path / name}: {says}"


def test_yaml_is_1_2(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "\ufeffa: [on, off, yes, no, y, 010, 0x1F, 0o17, 1_000, 2001-01-01, 12:30, ~, null, true, .inf]\n"
    )
    root = yaml.read(path)
    assert root.plain() == {
        "a": ["on", "off", "yes", "no", "y", 10, 31, 15, 1000, "2001-01-01", "12:30", None, None, True, inf]
    }
    assert root.at("a", 3).mark.column == 19
    with pytest.raises(LookupError):
        root.at("a", "b")


def test_the_nearest_word() -> None:
    assert nearest("wait_for", ["wait-for"]) == "wait-for"
    assert nearest("VSOCK", ["vsock"]) == "vsock"
    assert nearest("quite another", ["vsock"]) == ""


WHOLE = [path.read_text() for path in sorted(SCENARIOS.glob("*.yaml"))]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.integers(0, 2000),
    st.integers(0, 12),
    st.text("{}[]:-,'\"\n\t&*!#%@1a ", max_size=4),
)
def test_a_torn_file_loads_or_is_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: int, cut: int, put: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.yaml"
    at %= len(text)
    path.write_text(text[:at] + put + text[at + cut :])
    error = error_of(path)
    assert error is None or error.summary.startswith(f"{path}:")


def error_of(path: Path) -> UsageError | None:
    try:
        load(path)
    except UsageError as error:
        return error
    return None
