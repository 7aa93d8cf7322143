"""The job summary, made from JUnit files that pytest itself wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import msgspec
import pytest

from harness.model.claims import Claim
from harness.model.errors import UsageError
from harness.model.expect import Bounds, Word
from harness.model.link import Link
from harness.model.verdict import Outcome, Tally, Verdict
from harness.report import summary


def verdict(link: Link, outcome: Outcome, **seen: int) -> str:
    counts = {word: seen.get(word.value, 0) for word in Word}
    expected = {Word.SERVED: Bounds(min=8, max=8)}
    total = Tally(name="", clients=8, seen=counts, expected=expected)
    made = Verdict(
        scenario="eight",
        claim=Claim.MULTIPLE_CLIENTS,
        link=link,
        outcome=outcome,
        total=total,
        groups=(),
        differences=() if outcome is Outcome.PASSED else ("served 1 of 8, expected 8",),
        ends=(),
    )
    return msgspec.json.encode(made).decode()


MODULE = """
import pytest

@pytest.fixture
def about(request):
    link, verdict = request.param
    about = [("scenario", "eight"), ("claim", "multiple-clients"), ("link", link)]
    request.node.user_properties += about + ([("verdict", verdict)] if verdict else [])

@pytest.mark.parametrize("about", [("vsock", %(good)r)], indirect=True)
def test_good(about):
    pass

@pytest.mark.parametrize("about", [("virtio-serial", %(bad)r)], indirect=True)
def test_bad(about):
    raise AssertionError("served 1 | of 8\\n```\\n<not a tag>")

@pytest.mark.parametrize("about", [("isa-serial", "")], indirect=True)
def test_skipped(about):
    pytest.skip("qemu-device: no isa-serial")

@pytest.fixture
def broken():
    raise RuntimeError("the lab is gone")

def test_error(broken):
    pass

def test_other():
    pass
"""


@pytest.fixture(scope="module")
def junit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    good = verdict(Link.VSOCK, Outcome.PASSED, served=8, intact=8)
    bad = verdict(Link.VIRTIO_SERIAL, Outcome.FAILED, served=1, waiting=6, lost=1)
    folder = tmp_path_factory.mktemp("summary")
    (folder / "test_it.py").write_text(MODULE % {"good": good, "bad": bad})
    path = folder / "run-1" / "junit.xml"
    argv = [sys.executable, "-m", "pytest", f"--junitxml={path}", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed, 1 skipped, 1 error" in done.stdout, done.stdout
    return path


def test_totals_table_and_failures(junit: Path) -> None:
    text = summary.markdown("run-1", summary.read(junit))
    lines = text.splitlines()
    assert lines[0] == "## run-1: 2 passed, 1 failed, 1 error, 1 skipped"
    table = [line for line in lines if line.startswith("| `multiple-clients`")]
    start = "| `multiple-clients` | eight |"
    assert table[1] == f"{start} virtio-serial | 1 | 6 | · | · | 1 | served 8 | ❌ failed |"
    assert table[2] == f"{start} vsock | 8 | · | · | · | · | served 8 | ✅ passed |"
    assert table[0].startswith(f"{start} isa-serial |")
    assert table[0].endswith("qemu-device: no isa-serial | ⏭️ skipped |")
    assert len(table) == 3
    assert text.count("<details>") == 2
    assert "the lab is gone" in text


def test_reruns_are_counted_and_told() -> None:
    why = "lab1: kernel BUG at x.c:1"
    case = summary.Case(
        name="a::b", outcome="passed", text="", scenario="", claim="", link="", row=None, rerun=why
    )
    text = summary.markdown("run", [case])
    assert text.startswith("## run: 1 passed, 1 rerun\n")
    assert f"<summary>🔁 a::b</summary>\n\n```\n{why}\n```\n" in text


def test_a_fence_in_a_failure_does_not_end_its_block(junit: Path) -> None:
    text = summary.markdown("run-1", summary.read(junit))
    block = text[text.index("test_bad") :]
    assert "\n````\n" in block


def test_long_failures_are_cut() -> None:
    case = summary.Case(
        name="a::b", outcome="failed", text="x" * 100_000, scenario="", claim="", link="", row=None
    )
    text = summary.markdown("run", [case])
    assert len(text) < 3000
    assert "[…]" in text


def test_no_tests_say_so() -> None:
    assert summary.markdown("run", []) == "## run: no tests\n\n"


def test_main_prints_each_and_reports_what_it_cannot_read(
    junit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.main([str(junit)]) == 0
    assert capsys.readouterr().out.startswith("## run-1: ")
    assert summary.main([str(tmp_path / "none.xml"), str(junit)]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("## run-1: ")
    assert "none.xml can't be read: No such file" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<testsuites><testsuite>", "is not XML"),
        (
            f"<t><testcase><properties><property name='verdict' value={quoteattr('{}')}/></properties>"
            "</testcase></t>",
            "a verdict of another version",
        ),
    ],
)
def test_torn_and_foreign_files_are_usage_errors(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        summary.read(path)
